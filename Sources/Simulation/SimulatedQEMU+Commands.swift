import MigrationEngine
import QMP

// The commands, with QEMU's own conditions and words.

extension SimulatedQEMU {
  /// Carries a command out; nil when its reply comes later.
  func carryOut(
    _ request: QMPRequest, _ arguments: inout CommandArguments, client: Int?, monitor: Int
  ) throws(QMPCommandError) -> JSONValue? {
    if let answer = try query(request.name, &arguments) { return answer }
    switch request.name {
    case "stop":
      try arguments.finish()
      if runState == .inmigrate { isArmed = false } else { stop(.paused) }
    case "cont":
      try arguments.finish()
      try resumeByCommand()
    case "quit":
      try arguments.finish()
      quit(client, request)
      return nil
    case "system_reset":
      try arguments.finish()
      emit("RESET", ["guest": false, "reason": "host-qmp-system-reset"])
      if configuration.release == .qemu100, runState == .postmigrate { runState = .prelaunch }
    case "system_powerdown":
      try arguments.finish()
      emit("POWERDOWN")
    case "announce-self":
      for name in ["initial", "max", "rounds", "step"] { _ = try arguments.integer(name) }
      try arguments.finish()
    case "migrate-set-capabilities": try setCapabilities(&arguments)
    case "migrate-set-parameters": try setParameters(&arguments)
    case "migrate": try migrate(&arguments)
    case "migrate-incoming": try migrateIncoming(&arguments)
    case "migrate-continue": try migrateContinue(&arguments)
    case "migrate_cancel":
      try arguments.finish()
      cancelMigration()
    case "getfd":
      _ = try arguments.string("fdname")
      try arguments.finish()
      throw .generic("No file descriptor supplied via SCM_RIGHTS")
    case "closefd":
      let name = try arguments.string("fdname")
      try arguments.finish()
      throw .generic("File descriptor named '\(name)' not found")
    case "qmp_capabilities":
      throw QMPCommandError(
        errorClass: "CommandNotFound",
        text: "Capabilities negotiation is already complete, command ignored")
    default:
      return try blockCommand(request, &arguments, client: client)
    }
    return [:]
  }

  private func query(
    _ name: String, _ arguments: inout CommandArguments
  ) throws(QMPCommandError) -> JSONValue? {
    switch name {
    case "qom-get": return try objectProperty(&arguments)
    case "query-status":
      try arguments.finish()
      return .object(statusReport)
    case "query-migrate":
      try arguments.finish()
      return .object(migrationReport)
    case "query-migrate-capabilities":
      try arguments.finish()
      return .array(
        capabilities.map { ["state": .bool($0.isOn), "capability": .string($0.name)] })
    case "query-migrate-parameters":
      try arguments.finish()
      return .object(parameters)
    case "query-version":
      try arguments.finish()
      return .object(version)
    case "query-memory-size-summary":
      try arguments.finish()
      return ["base-memory": JSONValue(configuration.memoryBytes), "plugged-memory": 0]
    case "query-commands":
      try arguments.finish()
      return .array(
        QEMUVocabulary.commands(of: configuration.release).map { ["name": .string($0)] })
    case "query-qmp-schema":
      try arguments.finish()
      return .array(
        QEMUVocabulary.commands(of: configuration.release).map {
          ["name": .string($0), "meta-type": "command", "arg-type": "0", "ret-type": "0"]
        })
    default: return nil
    }
  }

  private var statusReport: JSONObject {
    var report: JSONObject = ["status": .string(runState.rawValue)]
    if configuration.release == .qemu72 { report["singlestep"] = false }
    report["running"] = .bool(runState == .running)
    return report
  }

  private func objectProperty(
    _ arguments: inout CommandArguments
  ) throws(QMPCommandError) -> JSONValue {
    let path = try arguments.string("path")
    let property = try arguments.string("property")
    try arguments.finish()
    guard path == "/machine" else {
      throw QMPCommandError(errorClass: "DeviceNotFound", text: "Device '\(path)' not found")
    }
    guard property == "type" else {
      throw .generic("Property '\(configuration.machineType).\(property)' not found")
    }
    return .string(configuration.machineType)
  }

  // MARK: - Run state

  private func resumeByCommand() throws(QMPCommandError) {
    switch runState {
    case .shutdown: throw .generic("Resetting the Virtual Machine is required")
    case .suspended: return
    case .finishMigrate where !outgoing.status.isFinal:
      throw .generic("Migration is not finalized yet")
    case .inmigrate:
      // 7.2 takes the disks at once, and fails while the source has them; 10.0 only arms.
      if configuration.release == .qemu72 { try activateDisks() }
      isArmed = true
    case .running: return
    default:
      try activateDisks()
      resume()
    }
  }

  /// Takes the locks of all disks.
  func activateDisks() throws(QMPCommandError) {
    guard !blocks.isActive else { return }
    for attachment in configuration.disks where !storage.lock(attachment.disk, for: side) {
      for taken in configuration.disks { storage.unlock(taken.disk, by: side) }
      throw .generic("Failed to get \"write\" lock")
    }
    blocks.isActive = true
  }

  func inactivateDisks() {
    blocks.isActive = false
    for attachment in configuration.disks { storage.unlock(attachment.disk, by: side) }
  }

  private func quit(_ client: Int?, _ request: QMPRequest) {
    emit("SHUTDOWN", ["guest": false, "reason": "host-qmp-quit"])
    if outgoing.isUnderway { setStatus(.cancelling) }
    cancelAllJobs()
    effects.append(.carriedOut("quit", request.arguments, client: client, refused: false))
    reply(to: client, request.id, [:])
    exit(status: 0)
  }

  // MARK: - The guest's own acts

  func guestActed(_ act: SimulatedGuest.Act) {
    guard runState == .running else { return }
    switch act {
    case .reboot:
      emit("RESET", ["guest": true, "reason": "guest-reset"])
    case .powerOff:
      emit("SHUTDOWN", ["guest": true, "reason": "guest-shutdown"])
      end()
    case .panic:
      if configuration.pausesOnPanic || configuration.survivesShutdown {
        emit("GUEST_PANICKED", ["action": "pause"])
        stop(.guestPanicked)
      } else {
        emit("GUEST_PANICKED", ["action": "poweroff"])
        emit("SHUTDOWN", ["guest": true, "reason": "guest-panic"])
        end()
      }
    case .inputOutputError:
      emit(
        "BLOCK_IO_ERROR",
        ["device": "", "operation": "write", "action": "stop", "reason": "Input/output error"])
      stop(.ioError)
    }
  }

  /// The guest is off.
  private func end() {
    guestIsOff = true
    if configuration.survivesShutdown {
      stop(.shutdown)
    } else {
      cancelAllJobs()
      guard outgoing.isUnderway else { return exit(status: 0) }
      setStatus(.cancelling)
      if configuration.release == .qemu100, random.chance(1, in: 8) {
        hang()
      } else {
        exit(status: 0)
      }
    }
  }

  /// Waits in its exit for ever, its sockets open. It was measured when a command came as the guest powered
  /// off during a migration.
  private func hang() {
    hangs = true
    runState = .shutdown
    outgoing.generation += 1
  }
}
