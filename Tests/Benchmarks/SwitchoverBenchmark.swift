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
    case explained = "by hand, query-status at STOP, then cont"
    case returnPathFloor = "by hand, return-path, cont on completed"
    case beforeResume = "libswitchover, before-resume, instant"
  }

  var version: QEMUVersion
  var rounds: Int
  var ways: [Way]

  /// How much longer than its floor the guest may stand.
  static let limit = 1.25

  func run(_ goals: inout Goals) throws {
    var gaps: [Way: Series] = [:]
    var blackouts: [Way: Series] = [:]
    var parts: [Series] = []
    for way in ways {
      gaps[way] = Series(name: way.rawValue)
      blackouts[way] = Series(name: way.rawValue)
    }
    for round in 0..<rounds {
      // Another way is first each time: what one leaves behind falls on no other alone.
      let first = round % ways.count
      for way in ways[first...] + ways[..<first] {
        let isSlow = way == .pollingSeconds || way == .pollingTenths
        if isSlow, round >= max(rounds / 4, 3) { continue }
        let figures = try measure(way)
        gaps[way]?.values.append(figures.gap)
        blackouts[way]?.values.append(figures.blackout)
        if way == .none { Self.add(figures.parts, to: &parts) }
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
    printTable("Guest gap on the serial port, \(version)", unit: "ms", rows(gaps))
    printTable("STOP → RESUME by QEMU's clock, \(version)", unit: "ms", rows(blackouts))
    if !parts.isEmpty {
      printTable(
        "\(Way.none.rawValue), its ledger, \(version)", unit: "ms", parts.map { ($0, nil) })
      print("")
    }
    for (way, floor) in [(Way.none, Way.floor), (.beforeResume, .returnPathFloor)]
    where ways.contains(way) {
      goals.judge(
        "guest gap, \(way.rawValue), \(version)", gaps[way], beside: gaps[floor], atMost: Self.limit
      )
      goals.judge(
        "STOP → RESUME, \(way.rawValue), \(version)", blackouts[way], beside: blackouts[floor],
        atMost: Self.limit)
    }
  }

  private static func add(_ parts: [(name: String, length: Double)], to table: inout [Series]) {
    for part in parts {
      let index = table.firstIndex { $0.name == part.name } ?? table.count
      if index == table.count { table.append(Series(name: part.name)) }
      table[index].values.append(part.length)
    }
  }

  private struct Figures {
    var gap: Double
    var blackout: Double
    /// The library's ledger: names and milliseconds.
    var parts: [(name: String, length: Double)] = []
  }

  private func measure(_ way: Way) throws -> Figures {
    var options = QEMUPair.Options(version)
    options.common.guest.ticksPerSecond = 2000
    options.incoming = .unix
    options.targetStartsPaused = way != .floor
    let pair = try QEMUPair(options)
    defer { pair.close() }
    guard pair.ticks.isTicking(.source) else { throw HarnessError("the guest does not tick") }
    var parts: [(name: String, length: Double)] = []
    switch way {
    case .floor, .explained, .returnPathFloor: migrateBare(pair, way)
    case .pollingSeconds: try migratePolling(pair, interval: 1_000_000)
    case .pollingTenths: try migratePolling(pair, interval: 100_000)
    case .none, .beforeResume: parts = try migrateWithLibrary(pair, way)
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
      blackout: Double(resume.timestampMicroseconds - stop.timestampMicroseconds) / 1000,
      parts: parts)
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
    if way == .explained {
      source.waitFor("\"STOP\"")
      source.send("{\"execute\":\"query-status\",\"id\":1}")
      source.waitFor(both: "\"completed\"", "\"return\"")
    } else {
      source.waitFor("\"completed\"")
    }
    if way != .floor { target.send("{\"execute\":\"cont\",\"id\":1}") }
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

  private func migrateWithLibrary(
    _ pair: QEMUPair, _ way: Way
  ) throws -> [(name: String, length: Double)] {
    let migration = try LibraryMigration(
      source: pair.source.monitorPaths[0], target: pair.target.monitorPaths[0],
      uri: pair.migrationAddress,
      handOver: way == .beforeResume ? .SWO_HAND_OVER_BEFORE_RESUME : .SWO_HAND_OVER_NONE)
    try migration.run()
    return migration.ledger
  }
}
