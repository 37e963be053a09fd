import DemoGuest
import MigrationEngine
import QMP

@testable import Simulation

/// A script's pair in a simulated world without a session.
final class SimulatedPair: ScriptedPair {
  private let world: World
  private var consoles: (source: Int, target: Int) = (0, 0)
  private var lastIdentifier: Int64 = 0
  private static let limit = Span.seconds(60)

  let migrationAddress = Scenario.migrationAddress
  let storagePath = "/simulated.nbd"

  /// Every number gives the world other delays, for what depends on them.
  init(_ release: SimulatedRelease, _ setup: Script.Setup, variation: UInt64) throws {
    var scenario = Scenario(release: release)
    var random = RandomSource(seed: variation)
    if variation > 0 {
      scenario.target.timing.load = .microseconds(random.number(in: 1...5_000))
      scenario.source.timing.drain = .microseconds(random.number(in: 1...5_000))
      scenario.source.timing.afterStatus = .microseconds(random.number(in: 1...3_000))
      scenario.migrationBytesPerSecond = UInt64(random.number(in: (32 << 20)...(4 << 30)))
      scenario.source.timing.stateBytes = UInt64(random.number(in: 1024...(8 << 20)))
    }
    scenario.source.memoryBytes = 64 << 20
    scenario.target.memoryBytes = UInt64(setup.targetMemoryMebibytes) << 20
    scenario.target.startsPaused = setup.targetIsPaused
    if setup.targetIsDeferred { scenario.target.incoming = .deferred }
    if setup.sourceHasRandomNumberDevice { scenario.source.devices.append("rng") }
    scenario.source.survivesShutdown = setup.survivesShutdown
    scenario.target.survivesShutdown = setup.survivesShutdown
    scenario.source.pausesOnPanic = setup.pausesOnPanic
    for number in 0..<setup.disks {
      scenario.disks += [(sectors: 8, hasLock: true), (sectors: 8, hasLock: true)]
      let node = "disk\(number)"
      scenario.source.disks.append(DiskAttachment(node: node, disk: 2 * number))
      scenario.target.disks.append(DiskAttachment(node: node, disk: 2 * number + 1))
    }
    world = World(scenario, seed: variation + 1)
    consoles = (try console(.source), try console(.target))
  }

  private func console(_ side: Side) throws -> Int {
    guard let stream = world.connect(.console, to: side) else { throw NoConsole() }
    guard world.happenUntil(within: Self.limit, { !self.lines(of: stream).isEmpty }) else {
      throw NoConsole()
    }
    world.send(stream, .toQEMU, Array("{\"execute\": \"qmp_capabilities\"}\n".utf8))
    guard world.happenUntil(within: Self.limit, { self.lines(of: stream).count > 1 }) else {
      throw NoConsole()
    }
    return stream
  }

  private struct NoConsole: Error {}

  private func stream(_ side: Script.Side) -> Int {
    side == .source ? consoles.source : consoles.target
  }

  private func lines(of stream: Int) -> [JSONValue] {
    world.consoles[stream].split(separator: UInt8(ascii: "\n")).compactMap { line in
      line.withUnsafeBytes { try? JSONText.decode($0) }
    }
  }

  func type(
    _ side: Script.Side, _ commands: [(name: String, arguments: JSONObject)]
  ) -> [Result<JSONValue, QMPCommandError>?] {
    var bytes: [UInt8] = []
    let first = lastIdentifier + 1
    for command in commands {
      lastIdentifier += 1
      let line: JSONObject = [
        "execute": .string(command.name), "arguments": .object(command.arguments),
        "id": .integer(lastIdentifier),
      ]
      bytes += JSONText.encode(.object(line)) + Array("\n".utf8)
    }
    let stream = stream(side)
    world.send(stream, .toQEMU, bytes)
    let identifiers = Array(first...max(first, lastIdentifier))
    func replies() -> [JSONValue?] {
      let lines = lines(of: stream)
      return identifiers.map { number in lines.first { $0["id"]?.int64 == number } }
    }
    _ = world.happenUntil(within: Self.limit) { replies().allSatisfy { $0 != nil } }
    return replies().map { reply in
      guard let reply else { return nil }
      if let value = reply["return"] { return .success(value) }
      return .failure(
        QMPCommandError(
          errorClass: reply["error"]?["class"]?.string ?? "",
          text: reply["error"]?["desc"]?.string ?? ""))
    }
  }

  func events(_ side: Script.Side) -> [(name: String, data: JSONValue)] {
    lines(of: stream(side)).compactMap { line in
      line["event"]?.string.map { ($0, line["data"] ?? .null) }
    }
  }

  func wait(
    _ side: Script.Side, until condition: ([(name: String, data: JSONValue)]) -> Bool
  ) -> Bool {
    world.happenUntil(within: Self.limit) { condition(self.events(side)) }
  }

  func waitForEnd(_ side: Script.Side) -> Bool {
    let stream = stream(side)
    return world.happenUntil(within: Self.limit) { !self.world.streams[stream].isOpenAtClient }
  }

  func waitForRunState(_ side: Script.Side, _ states: [String]) -> Bool {
    world.happenUntil(within: Self.limit) {
      (side == .source ? self.world.source : self.world.target).runState.rawValue.isOne(of: states)
    }
  }

  func act(_ side: Script.Side, _ command: GuestCommand) {
    let act: SimulatedGuest.Act =
      switch command {
      case .powerOff: .powerOff
      case .reboot: .reboot
      case .panic: .panic
      case .writeSector, .writeFaultySector, .startLoad, .stopLoad: .inputOutputError
      }
    world.give(side == .source ? .source : .target, .guest(act))
  }

  func kill(_ side: Script.Side) { world.give(side == .source ? .source : .target, .killed) }
}

extension String {
  fileprivate func isOne(of texts: [String]) -> Bool { texts.contains(self) }
}
