import CSwitchover
import DemoGuest
import Glibc
import QEMUHarness

/// The blackout of real migrations, several ways of driving them side by side.
struct SwitchoverBenchmark {
  enum Way: String, CaseIterable {
    case floor = "target resumes by itself (floor)"
    case pollingSeconds = "manager polls each second"
    case pollingTenths = "manager polls each 100 ms"
    case none = "libswitchover, hand-over none"
    case returnPathFloor = "by hand, return-path, cont on completed"
    case beforeResume = "libswitchover, before-resume, instant"
  }

  var version: QEMUVersion
  var rounds: Int
  var ways: [Way]

  func run() throws {
    var gaps: [Way: Series] = [:]
    var blackouts: [Way: Series] = [:]
    for way in ways {
      gaps[way] = Series(name: way.rawValue)
      blackouts[way] = Series(name: way.rawValue)
    }
    for round in 0..<rounds {
      for way in ways {
        let isSlow = way == .pollingSeconds || way == .pollingTenths
        if isSlow, round >= max(rounds / 4, 3) { continue }
        let figures = try measure(way)
        gaps[way]?.values.append(figures.gap)
        blackouts[way]?.values.append(figures.blackout)
      }
    }
    func rows(_ table: [Way: Series]) -> [(series: Series, floor: Series?)] {
      ways.compactMap { way in
        guard let series = table[way] else { return nil }
        let floor: Way? =
          switch way {
          case .floor, .returnPathFloor: nil
          case .beforeResume: .returnPathFloor
          default: .floor
          }
        return (series, floor.flatMap { table[$0] })
      }
    }
    printTable("Guest gap on the serial port, QEMU \(version)", unit: "ms", rows(gaps))
    printTable("STOP → RESUME by QEMU's clock, QEMU \(version)", unit: "ms", rows(blackouts))
  }

  private struct Figures {
    var gap: Double
    var blackout: Double
  }

  private func measure(_ way: Way) throws -> Figures {
    var options = QEMUPair.Options(version)
    options.common.guest.ticksPerSecond = 2000
    options.incoming = .unix
    options.targetStartsPaused = way != .floor
    let pair = try QEMUPair(options)
    defer { pair.close() }
    guard pair.ticks.isTicking(.source) else { throw HarnessError("the guest does not tick") }
    switch way {
    case .floor, .returnPathFloor: migrateBare(pair, way)
    case .pollingSeconds: try migratePolling(pair, interval: 1_000_000)
    case .pollingTenths: try migratePolling(pair, interval: 100_000)
    case .none, .beforeResume: try migrateWithLibrary(pair, way)
    }
    guard pair.ticks.isTicking(.target), let gap = pair.ticks.gap() else {
      throw HarnessError("the guest does not tick on the target")
    }
    let resume = try pair.target.monitor.waitForEvent("RESUME")
    guard let stop = pair.source.monitor.events.last(where: { $0.name == "STOP" }) else {
      throw HarnessError("no STOP was seen")
    }
    return Figures(
      gap: gap / .milliseconds(1),
      blackout: Double(resume.timestampMicroseconds - stop.timestampMicroseconds) / 1000)
  }

  // MARK: - By hand

  static let unlimited =
    "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":17592186044416}}"

  static func capabilities(_ names: [String]) -> String {
    let list = names.map { "{\"capability\":\"\($0)\",\"state\":true}" }.joined(separator: ",")
    return "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":[\(list)]}}"
  }

  private func migrateBare(_ pair: QEMUPair, _ way: Way) {
    let source = BareMonitor(path: pair.source.monitorPaths[0])
    let target = BareMonitor(path: pair.target.monitorPaths[0])
    let names = way == .returnPathFloor ? ["events", "return-path"] : ["events"]
    source.execute(Self.capabilities(names))
    target.execute(Self.capabilities(names + (way == .floor ? [] : ["late-block-activate"])))
    source.execute(Self.unlimited)
    source.send(
      "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"\(pair.migrationAddress)\"}}")
    source.waitFor("\"completed\"")
    if way == .returnPathFloor { target.send("{\"execute\":\"cont\",\"id\":1}") }
    target.waitFor("\"RESUME\"")
  }

  private func migratePolling(_ pair: QEMUPair, interval: useconds_t) throws {
    for side in Side.allCases { try pair.process(side).monitor.setCapabilities(["events": true]) }
    let source = pair.source.monitor
    try source.execute("migrate-set-parameters", ["max-bandwidth": 17_592_186_044_416])
    try source.execute("migrate", ["uri": .string(pair.migrationAddress)])
    while try source.migrationStatus() != "completed" { usleep(interval) }
    try pair.target.monitor.execute("cont")
  }

  // MARK: - By the library

  private func migrateWithLibrary(_ pair: QEMUPair, _ way: Way) throws {
    var loop: OpaquePointer?
    var migration: OpaquePointer?
    try check(swo_loop_new(&loop))
    defer { swo_loop_free(loop) }
    try check(swo_migration_new(loop, &migration))
    defer { swo_migration_free(migration) }
    try check(swo_migration_set_monitor(migration, 1, pair.source.monitorPaths[0]))
    try check(swo_migration_set_monitor(migration, 2, pair.target.monitorPaths[0]))
    try check(swo_migration_set_uri(migration, pair.migrationAddress))
    try check(swo_migration_set_source_end(migration, 2))
    try check(swo_migration_set_hand_over(migration, way == .beforeResume ? 1 : 3))
    try check(swo_migration_start(migration))
    while true {
      let state = swo_migration_run(migration, -1)
      try check(state)
      if state == 2 { try check(swo_migration_handed_over(migration, 1)) }
      if state == 1 { break }
    }
    guard swo_migration_end(migration) == 1 else {
      throw HarnessError(String(cString: swo_migration_summary(migration)))
    }
  }

  private func check(_ code: Int32) throws {
    if code < 0 { throw HarnessError(String(cString: swo_last_error())) }
  }
}
