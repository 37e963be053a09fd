import MigrationEngine
import QMP

// The engine's commands in QMP's words, and QMP's replies in the engine's.

extension Command {
  /// The `arguments` member, or nil.
  var qmpArguments: JSONObject? {
    switch self {
    case .queryMachineType:
      return ["path": "/machine", "property": "type"]
    case .setCapabilities(let settings):
      return [
        "capabilities": .array(
          settings.map { .object(["capability": .string($0.name), "state": .bool($0.on)]) })
      ]
    case .setParameters(let settings):
      var arguments = JSONObject()
      for setting in settings { arguments[setting.name] = setting.value.json }
      return arguments
    case .migrate(let uri), .migrateIncoming(let uri):
      return ["uri": .string(uri)]
    case .announceSelf:
      return ["initial": 50, "max": 550, "rounds": 5, "step": 100]
    case .queryStatus, .queryMigrate, .queryCapabilities, .queryParameters, .queryMemorySize, .stop,
      .cont, .quit, .migrateCancel:
      return nil
    }
  }

  /// How long its reply may take. QEMU's main loop is blocked while it flushes the last RAM, so the
  /// limits are generous: a timeout is an unknown outcome, and costs more than waiting.
  var replyLimit: Span { .seconds(60) }

  /// Reads a successful reply.
  func answer(_ value: JSONValue) -> Answer {
    switch self {
    case .queryStatus:
      return value["status"]?.string.map { .runState(RunState(qemuName: $0)) } ?? .unreadable
    case .queryMigrate:
      return .migration(MigrationReport(value))
    case .queryCapabilities:
      guard let list = value.array else { return .unreadable }
      return .capabilities(
        list.compactMap { entry in
          guard let name = entry["capability"]?.string, let on = entry["state"]?.bool else {
            return nil
          }
          return CapabilitySetting(name: name, on: on)
        })
    case .queryParameters:
      guard let object = value.object else { return .unreadable }
      return .parameters(
        object.compactMap { member in
          ParameterValue(member.value).map { ParameterSetting(name: member.name, value: $0) }
        })
    case .queryMachineType:
      return value.string.map { .machineType($0) } ?? .unreadable
    case .queryMemorySize:
      guard let base = value["base-memory"]?.uint64 else { return .unreadable }
      return .memorySize(
        bytes: base.addingReportingOverflow(value["plugged-memory"]?.uint64 ?? 0).partialValue)
    case .stop, .cont, .quit, .setCapabilities, .setParameters, .migrate, .migrateIncoming,
      .migrateCancel, .announceSelf:
      return .done
    }
  }
}

extension ParameterValue {
  var json: JSONValue {
    switch self {
    case .integer(let value): .integer(value)
    case .unsigned(let value): JSONValue(value)
    case .boolean(let value): .bool(value)
    case .string(let value): .string(value)
    }
  }

  /// nil for what is no plain value (lists, objects): such a parameter is never changed.
  public init?(_ value: JSONValue) {
    switch value {
    case .integer(let number): self = .integer(number)
    case .unsigned(let number): self = .unsigned(number)
    case .bool(let on): self = .boolean(on)
    case .string(let text): self = .string(text)
    default: return nil
    }
  }
}

extension MigrationReport {
  init(_ value: JSONValue) {
    self.init()
    status = value["status"]?.string.map { MigrationStatus(qemuName: $0) } ?? .none
    errorDescription = value["error-desc"]?.string
    blockedReasons = value["blocked-reasons"]?.array?.compactMap(\.string) ?? []
    listens = value["socket-address"] != nil
    downtimeMilliseconds = value["downtime"]?.uint64
    totalTimeMilliseconds = value["total-time"]?.uint64
    guard let ram = value["ram"] else { return }
    ramTotalBytes = ram["total"]?.uint64
    ramTransferredBytes = ram["transferred"]?.uint64
    ramRemainingBytes = ram["remaining"]?.uint64
    pass = ram["dirty-sync-count"]?.uint64
    dirtyPagesRate = ram["dirty-pages-rate"]?.uint64
    pageSizeBytes = ram["page-size"]?.uint64
    rateMegabitsPerSecond = ram["mbps"]?.double
  }
}

extension QEMUEvent {
  init(_ event: QMPEvent) {
    switch event.name {
    case "STOP": self = .stop
    case "RESUME": self = .resume
    case "SHUTDOWN": self = .shutdown(byGuest: event.data["guest"]?.bool ?? false)
    case "RESET": self = .reset
    case "SUSPEND": self = .suspend
    case "WAKEUP": self = .wakeup
    case "GUEST_PANICKED": self = .guestPanicked
    case "MIGRATION":
      self =
        event.data["status"]?.string.map { .migration(MigrationStatus(qemuName: $0)) }
        ?? .other(event.name)
    case "MIGRATION_PASS":
      self = event.data["pass"]?.uint64.map { .migrationPass($0) } ?? .other(event.name)
    default: self = .other(event.name)
    }
  }
}
