import DemoGuest
import Foundation
import QEMUHarness
import QMP

/// A script's pair of real QEMUs.
final class RealPair: ScriptedPair {
  private let directory: TemporaryDirectory
  private let source: QEMUProcess
  private let target: QEMUProcess

  let migrationAddress: String
  let storagePath: String

  init(_ version: QEMUVersion, _ setup: Script.Setup) throws {
    directory = try TemporaryDirectory()
    migrationAddress = "unix:" + directory.file("migration.sock")
    storagePath = directory.file("nbd.sock")
    var options = QEMUProcess.Options()
    options.version = version
    options.memoryMebibytes = 64
    options.hasPanicDevice = true
    if setup.hasFaultyDisk {
      options.guest.disks = GuestImage.DiskLoad(sectors: 100)
      options.guest.startsLoadAtBoot = false
    }
    if setup.survivesShutdown { options.arguments.append("-no-shutdown") }
    if setup.pausesOnPanic { options.arguments += ["-action", "panic=pause"] }
    var targetOptions = options
    for number in 0..<setup.disks {
      for side in [Script.Side.source, .target] {
        let image = try DiskImage(
          path: directory.file("\(side.rawValue)\(number)"), format: .raw,
          sectors: setup.hasFaultyDisk ? 1 << 16 : 4096, content: .zeros, version: version)
        var disk = image.disk
        if side == .source {
          disk.hasFaultyBlock = setup.hasFaultyDisk
          disk.errorAction = setup.hasFaultyDisk ? "stop" : "report"
          options.disks.append(disk)
        } else {
          targetOptions.disks.append(disk)
        }
      }
    }
    if setup.sourceHasRandomNumberDevice { options.arguments += ["-device", "virtio-rng-pci"] }
    source = try QEMUProcess(options, name: "source", in: directory)
    targetOptions.memoryMebibytes = setup.targetMemoryMebibytes
    targetOptions.startsPaused = setup.targetIsPaused
    targetOptions.incoming = setup.targetIsDeferred ? "defer" : migrationAddress
    target = try QEMUProcess(targetOptions, name: "target", in: directory)
    guard source.serial.waitForTicks(3, upTo: .seconds(60)) else {
      throw HarnessError("the guest does not tick: \(source.standardError)")
    }
  }

  deinit {
    source.close()
    target.close()
    directory.remove()
  }

  private func process(_ side: Script.Side) -> QEMUProcess { side == .source ? source : target }

  func type(
    _ side: Script.Side, _ commands: [(name: String, arguments: JSONObject)]
  ) -> [Result<QMP.JSONValue, QMPCommandError>?] {
    let monitor = process(side).monitor
    let identifiers = commands.map { command in
      try? monitor.send(command.name, Self.translate(.object(command.arguments)))
    }
    return zip(commands, identifiers).map { command, identifier in
      guard let identifier else { return nil }
      do {
        return .success(
          Self.translate(try monitor.waitForReply(to: identifier, of: command.name)))
      } catch let error as HarnessMonitor.CommandError {
        return .failure(QMPCommandError(errorClass: error.errorClass, text: error.message))
      } catch {
        return nil
      }
    }
  }

  func events(_ side: Script.Side) -> [(name: String, data: QMP.JSONValue)] {
    process(side).monitor.events.map { ($0.name, Self.translate($0.data)) }
  }

  func wait(
    _ side: Script.Side, until condition: ([(name: String, data: QMP.JSONValue)]) -> Bool
  ) -> Bool {
    let monitor = process(side).monitor
    let deadline = MonotonicTime.now + HarnessMonitor.commandLimit
    while !condition(events(side)) {
      guard !monitor.isClosed || condition(events(side)), .now < deadline else {
        return condition(events(side))
      }
      usleep(1000)
    }
    return true
  }

  func waitForEnd(_ side: Script.Side) -> Bool { process(side).monitor.waitForClose() }

  func waitForRunState(_ side: Script.Side, _ states: [String]) -> Bool {
    let monitor = process(side).monitor
    let deadline = MonotonicTime.now + HarnessMonitor.commandLimit
    while let state = try? monitor.runState() {
      if states.contains(state) { return true }
      guard .now < deadline else { return false }
      usleep(1000)
    }
    return false
  }

  func act(_ side: Script.Side, _ command: GuestCommand) {
    try? process(side).serial.send(command)
  }

  func kill(_ side: Script.Side) { process(side).kill() }

  // MARK: - JSON

  private static func translate(_ value: QEMUHarness.JSONValue) -> QMP.JSONValue {
    let text = (try? value.text).map { Array($0) } ?? []
    return text.withUnsafeBytes { try? JSONText.decode($0) } ?? .null
  }

  private static func translate(_ value: QMP.JSONValue) -> QEMUHarness.JSONValue {
    (try? QEMUHarness.JSONValue(text: Data(JSONText.encode(value)))) ?? [:]
  }
}
