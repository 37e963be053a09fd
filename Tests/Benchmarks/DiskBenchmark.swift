import CSwitchover
import DemoGuest
import Glibc
import QEMUHarness

/// The blackout of real migrations with one local disk of 64 MiB under write load, several orders of
/// ending its mirror side by side, beside the floor: the same guest on a disk that both sides share.
struct DiskBenchmark {
  enum Way: String, CaseIterable {
    case shared = "shared disk, target resumes by itself (floor)"
    case fast = "libswitchover, fast order"
    case fallback = "libswitchover, other order"
    case libvirtOrder = "end mirrors, wait, NBD stop, wait, cont"
    case slowOrder = "cancel, 1 s, dismiss, 1 s, NBD stop, cont"

    var isByLibrary: Bool { self == .fast || self == .fallback }
  }

  var version: QEMUVersion
  var rounds: Int
  /// How far the source is from the target, and the one who drives from both: a round trip,
  /// milliseconds, on NBD and on both monitors.
  var roundTripMilliseconds = 0

  private var ways: [Way] {
    roundTripMilliseconds == 0 ? Way.allCases : [.shared, .fast, .fallback, .libvirtOrder]
  }

  /// The fast order beside libvirt's, and what is left of it without QEMU's drain beside the floor.
  private static let (limitBesideLibvirt, limitBesideFloor) = (0.5, 1.5)

  func run(_ goals: inout Goals) throws {
    var gaps: [Way: Series] = [:]
    var blackouts: [Way: Series] = [:]
    var drain = Series(name: "fast order: STOP → pre-switchover")
    for way in ways {
      (gaps[way], blackouts[way]) = (Series(name: way.rawValue), Series(name: way.rawValue))
    }
    for round in 0..<rounds {
      // Another way is first each time: what one leaves behind falls on no other alone.
      let first = round % ways.count
      for way in ways[first...] + ways[..<first] {
        if way == .slowOrder, round >= max(rounds / 4, 3) { continue }
        let figures = try measure(way)
        gaps[way]?.values.append(figures.gap)
        blackouts[way]?.values.append(figures.blackout)
        if way == .fast, let time = figures.drain { drain.values.append(time) }
      }
    }
    let place =
      "\(version)" + (roundTripMilliseconds == 0 ? "" : ", \(roundTripMilliseconds) ms away")
    printTable("QEMU's own drain, \(place)", unit: "ms", [(drain, nil)])
    for (title, table) in [
      ("Guest gap on the serial port", gaps), ("STOP → RESUME by QEMU's clock", blackouts),
    ] {
      let rows = ways.compactMap { way in
        table[way].map { ($0, way == .shared ? nil : table[.shared]) }
      }
      printTable("\(title), one local disk, \(place)", unit: "ms", rows)
      judge(title, table, drain: drain.median, &goals)
    }
  }

  /// The goals are for disks next door; far away there are figures alone.
  private func judge(
    _ title: String, _ table: [Way: Series], drain: Double, _ goals: inout Goals
  ) {
    guard roundTripMilliseconds == 0, let ours = table[.fast]?.median,
      let shared = table[.shared]?.median, let libvirt = table[.libvirtOrder]?.median
    else { return }
    print("")
    goals.judge(
      "\(title), fast order, \(version)", ours / libvirt, atMost: Self.limitBesideLibvirt,
      "× libvirt's order")
    goals.judge(
      "\(title), fast order without QEMU's drain, \(version)", (ours - drain) / shared,
      atMost: Self.limitBesideFloor, "× the shared disk's")
  }

  // MARK: - One migration

  private struct Figures {
    var gap: Double
    var blackout: Double
    var drain: Double?
  }

  /// The ways to both monitors and to the target's NBD server, as the one who drives has them.
  private struct Ways {
    var source: String
    var target: String
    var nbd: Endpoint
    var relays: [Relay] = []

    init(_ pair: QEMUPair, roundTripMilliseconds: Int) throws {
      source = pair.source.monitorPaths[0]
      target = pair.target.monitorPaths[0]
      nbd = pair.nbdEndpoint
      guard roundTripMilliseconds > 0 else { return }
      func away(_ name: String, _ destination: Endpoint) throws -> String {
        let path = pair.directory.file(name)
        let relay = try Relay(listeningOn: .unix(path), forwardingTo: destination)
        relay.setRoundTripTime(.milliseconds(roundTripMilliseconds))
        relays.append(relay)
        return path
      }
      source = try away("far-source.sock", .unix(source))
      target = try away("far-target.sock", .unix(target))
      nbd = .unix(try away("far-nbd.sock", nbd))
    }
  }

  private func measure(_ way: Way) throws -> Figures {
    var options = QEMUPair.Options(version)
    options.common.guest.ticksPerSecond = 2000
    options.common.guest.disks = GuestImage.DiskLoad(sectors: 4096)
    options.incoming = .unix
    options.targetStartsPaused = way != .shared
    var disk = QEMUPair.DiskOptions()
    disk.sectors = 131_072
    disk.isShared = way == .shared
    options.disks = [disk]
    let pair = try QEMUPair(options)
    defer { pair.close() }
    let ways = try Ways(pair, roundTripMilliseconds: roundTripMilliseconds)
    defer { for relay in ways.relays { relay.close() } }
    guard pair.ticks.isTicking(.source) else { throw HarnessError("the guest does not tick") }
    if way.isByLibrary {
      try migrateWithLibrary(pair, ways, isFast: way == .fast)
    } else {
      try migrateByHand(pair, ways, way)
    }
    guard pair.ticks.isTicking(.target), let gap = pair.ticks.gap() else {
      throw HarnessError("the guest does not tick on the target")
    }
    let resume = try pair.target.monitor.waitForEvent("RESUME")
    guard let stop = pair.source.monitor.events.last(where: { $0.name == "STOP" }) else {
      throw HarnessError("no STOP was seen")
    }
    let drained = pair.source.monitor.events.first {
      $0.name == "MIGRATION" && $0.data["status"]?.string == "pre-switchover"
    }
    func milliseconds(to event: HarnessMonitor.Event) -> Double {
      Double(event.timestampMicroseconds - stop.timestampMicroseconds) / 1000
    }
    return Figures(
      gap: gap / .milliseconds(1), blackout: milliseconds(to: resume),
      drain: drained.map(milliseconds))
  }

  // MARK: - By hand, event by event, with no more between socket and caller than C would have

  private func migrateByHand(_ pair: QEMUPair, _ ways: Ways, _ way: Way) throws {
    if !pair.mirroredDisks.isEmpty {
      try pair.startNBDServer(at: pair.nbdEndpoint)
      try pair.startMirrors(to: ways.nbd)
    }
    let source = BareMonitor(path: ways.source)
    let target = BareMonitor(path: ways.target)
    let pauses = way == .libvirtOrder ? ["pause-before-switchover"] : []
    source.execute(SwitchoverBenchmark.capabilities(["events"] + pauses))
    target.execute(SwitchoverBenchmark.capabilities(["events", "late-block-activate"]))
    source.execute(SwitchoverBenchmark.unlimited)
    source.send("{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"\(pair.migrationAddress)\"}}")
    let cancel =
      "{\"execute\":\"block-job-cancel\",\"arguments\":{\"device\":\""
      + QEMUPair.mirrorName(disk: 0) + "\",\"force\":false}}"
    switch way {
    case .libvirtOrder:
      source.waitFor("\"pre-switchover\"")
      source.send(cancel)
      source.waitFor("\"BLOCK_JOB_COMPLETED\"")
      source.send(
        "{\"execute\":\"migrate-continue\",\"arguments\":{\"state\":\"pre-switchover\"}}")
      source.waitFor("\"completed\"")
      target.execute("{\"execute\":\"nbd-server-stop\"}")
    case .slowOrder:
      source.waitFor("\"completed\"")
      source.send(cancel)
      usleep(1_000_000)
      source.waitFor("\"BLOCK_JOB_COMPLETED\"")
      usleep(1_000_000)
      target.execute("{\"execute\":\"nbd-server-stop\"}")
    default:
      break
    }
    if way != .shared { target.send("{\"execute\":\"cont\",\"id\":1}") }
    target.waitFor("\"RESUME\"")
  }

  // MARK: - By the library

  private func migrateWithLibrary(_ pair: QEMUPair, _ ways: Ways, isFast: Bool) throws {
    var loop: OpaquePointer?
    var migration: OpaquePointer?
    try check(swo_loop_new(&loop))
    defer { swo_loop_free(loop) }
    try check(swo_migration_new(loop, &migration))
    defer { swo_migration_free(migration) }
    try check(swo_migration_set_monitor(migration, 1, ways.source))
    try check(swo_migration_set_monitor(migration, 2, ways.target))
    try check(swo_migration_set_uri(migration, pair.migrationAddress))
    try check(swo_migration_set_source_end(migration, 2))
    try check(swo_migration_set_hand_over(migration, 3))
    guard case .unix(let far) = ways.nbd, case .unix(let near) = pair.nbdEndpoint else { return }
    let node = QEMUProcess.nodeName(disk: 0)
    try check(swo_migration_set_nbd(migration, "unix:" + far, "unix:" + near))
    try check(swo_migration_add_disk(migration, node, node, node, 0))
    try check(swo_migration_set_fast_order(migration, isFast ? 1 : 0))
    try check(swo_migration_start(migration))
    while try check(swo_migration_run(migration, -1)) != 1 {}
    guard swo_migration_end(migration) == 1 else {
      throw HarnessError(String(cString: swo_migration_summary(migration)))
    }
  }

  @discardableResult
  private func check(_ code: Int32) throws -> Int32 {
    if code < 0 { throw HarnessError(String(cString: swo_last_error())) }
    return code
  }
}
