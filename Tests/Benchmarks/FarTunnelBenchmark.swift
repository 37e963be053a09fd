import CSwitchover
import DemoGuest
import QEMUHarness

/// The blackout of real migrations to a host that is 10 ms away and reached by ssh, beside one that is
/// not away at all, and one that is as far and reached by plain sockets. The storage is shared.
struct FarTunnelBenchmark {
  enum Way: String, CaseIterable {
    case near = "libswitchover, not away (floor)"
    case far = "libswitchover, plain sockets"
    case automatic = "libswitchover, ssh://, auto"
    case libssh2 = "libswitchover, ssh://, libssh2"
    case system = "libswitchover, ssh://, ssh"

    var carrier: swo_ssh_carrier? {
      switch self {
      case .near, .far: nil
      case .automatic: .SWO_SSH_AUTO
      case .libssh2: .SWO_SSH_LIBSSH2
      case .system: .SWO_SSH_SYSTEM
      }
    }
  }

  var version: QEMUVersion
  var rounds: Int

  private static let roundTripMilliseconds = 10
  /// What the way there may cost: once the way of the grant, and 5 ms.
  private static let limitMilliseconds = 10.0

  func run(_ goals: inout Goals) throws {
    var gaps: [Way: Series] = [:]
    var blackouts: [Way: Series] = [:]
    for way in Way.allCases {
      (gaps[way], blackouts[way]) = (Series(name: way.rawValue), Series(name: way.rawValue))
    }
    let server = try SSHServer()
    let relay = try Relay(listeningOn: .tcp(0), forwardingTo: .tcp(server.port))
    relay.setRoundTripTime(.milliseconds(Self.roundTripMilliseconds))
    defer { relay.close() }
    for round in 0..<rounds {
      let first = round % Way.allCases.count
      for way in Way.allCases[first...] + Way.allCases[..<first] {
        let figures = try measure(way, server, relay)
        gaps[way]?.values.append(figures.gap)
        blackouts[way]?.values.append(figures.blackout)
      }
    }
    let place = "shared storage, \(version), \(Self.roundTripMilliseconds) ms away"
    for (title, table) in [
      ("Guest gap on the serial port", gaps), ("STOP → RESUME by QEMU's clock", blackouts),
    ] {
      printTable(
        "\(title), \(place)", unit: "ms",
        Way.allCases.compactMap { way in
          table[way].map { ($0, way == .near ? nil : table[.near]) }
        })
    }
    print("")
    for way in Way.allCases where way.carrier != nil {
      guard let ours = blackouts[way], let near = blackouts[.near] else { continue }
      goals.judge(
        "STOP → RESUME, \(way.rawValue), \(version), more than near by",
        ours.median - near.median, atMost: Self.limitMilliseconds, "ms")
    }
  }

  private func measure(
    _ way: Way, _ server: SSHServer, _ relay: Relay
  ) throws -> (gap: Double, blackout: Double) {
    var options = QEMUPair.Options(version)
    options.common.guest.ticksPerSecond = 2000
    options.incoming = .unix
    let pair = try QEMUPair(options)
    defer { pair.close() }
    guard pair.ticks.isTicking(.source) else { throw HarnessError("the guest does not tick") }
    var (target, uri) = (pair.target.monitorPaths[0], pair.migrationAddress)
    var relays: [Relay] = []
    defer { for relay in relays { relay.close() } }
    if way == .far {
      func away(_ name: String, _ destination: Endpoint) throws -> String {
        let path = pair.directory.file(name)
        let relay = try Relay(listeningOn: .unix(path), forwardingTo: destination)
        relay.setRoundTripTime(.milliseconds(Self.roundTripMilliseconds))
        relays.append(relay)
        return path
      }
      target = try away("far-monitor", .unix(target))
      uri = "unix:" + (try away("far-memory", pair.migrationEndpoint))
    }
    if way.carrier != nil { target = server.address(target) }
    let migration = try LibraryMigration(
      source: pair.source.monitorPaths[0], target: target, uri: uri,
      handOver: .SWO_HAND_OVER_NONE)
    if let carrier = way.carrier, case .tcp(let port) = relay.endpoint {
      try migration.setSSH(carrier, command: server.command(port: port))
    }
    try migration.run()
    guard pair.ticks.isTicking(.target), let gap = pair.ticks.gap() else {
      throw HarnessError("the guest does not tick on the target")
    }
    let resume = try pair.target.monitor.waitForEvent("RESUME")
    guard let stop = pair.source.monitor.events.last(where: { $0.name == "STOP" }) else {
      throw HarnessError("no STOP was seen")
    }
    return (
      gap / .milliseconds(1),
      Double(resume.timestampMicroseconds - stop.timestampMicroseconds) / 1000
    )
  }
}
