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
    case .migrateContinue:
      return ["state": "pre-switchover"]
    case .queryBlockNodes:
      return ["flat": true]
    case .nbdServerStart(let address):
      return ["addr": address.legacyJSON]
    case .blockExportAdd(let id, let node, let name):
      return [
        "type": "nbd", "id": .string(id), "node-name": .string(node), "name": .string(name),
        "writable": true,
      ]
    case .blockdevAdd(let node, let address, let exportName):
      return [
        "driver": "nbd", "node-name": .string(node), "server": address.json,
        "export": .string(exportName),
      ]
    case .blockdevDel(let node):
      return ["node-name": .string(node)]
    case .blockdevMirror(let job, let device, let target, let speed, let writeBlocking):
      return [
        "job-id": .string(job), "device": .string(device), "target": .string(target),
        "sync": "full",
        "copy-mode": .string(writeBlocking ? "write-blocking" : "background"),
        "auto-dismiss": false, "speed": JSONValue(speed),
      ]
    case .driveMirror(
      let job, let device, let address, let exportName, let node, let speed, let writeBlocking):
      return [
        "job-id": .string(job), "device": .string(device),
        "target": .string(address.uri(exportName: exportName)), "sync": "full", "mode": "existing",
        "format": "raw", "node-name": .string(node),
        "copy-mode": .string(writeBlocking ? "write-blocking" : "background"),
        "auto-dismiss": false, "speed": JSONValue(speed),
      ]
    case .blockJobChange(let job):
      return ["id": .string(job), "type": "mirror", "copy-mode": "write-blocking"]
    case .blockJobSetSpeed(let job, let speed):
      return ["device": .string(job), "speed": JSONValue(speed)]
    case .blockJobCancel(let job, let force):
      return ["device": .string(job), "force": .bool(force)]
    case .jobDismiss(let job):
      return ["id": .string(job)]
    case .yank(let nodes):
      return [
        "instances": .array(
          nodes.map { .object(["type": "block-node", "node-name": .string($0)]) })
      ]
    case .queryStatus, .queryMigrate, .queryCapabilities, .queryParameters, .queryMemorySize, .stop,
      .cont, .quit, .migrateCancel, .queryCommands, .queryBlockDevices, .queryBlockExports,
      .queryBlockJobs, .nbdServerStop:
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
    case .queryCommands:
      return .commands(value.array?.compactMap { $0["name"]?.string } ?? [])
    case .queryBlockNodes:
      return .blockNodes(value.array?.compactMap { BlockNodeReport(node: $0) } ?? [])
    case .queryBlockDevices:
      return .blockNodes(value.array?.compactMap { BlockNodeReport(device: $0) } ?? [])
    case .queryBlockExports:
      return .blockExports(value.array?.compactMap { BlockExportReport($0) } ?? [])
    case .queryBlockJobs:
      guard let list = value.array else { return .unreadable }
      return .blockJobs(list.compactMap { BlockJobReport($0) })
    case .migrateContinue, .nbdServerStart, .nbdServerStop, .blockExportAdd, .blockdevAdd,
      .blockdevDel, .blockdevMirror, .driveMirror, .blockJobChange, .blockJobSetSpeed,
      .blockJobCancel, .jobDismiss, .yank:
      return .done
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

extension NBDAddress {
  /// As `SocketAddress`: a flat union.
  var json: JSONValue {
    switch self {
    case .unix(let path): ["type": "unix", "path": .string(path)]
    case .inet(let host, let port):
      ["type": "inet", "host": .string(host), "port": .string(port)]
    }
  }

  /// As `SocketAddressLegacy`, which `nbd-server-start` still takes.
  var legacyJSON: JSONValue {
    switch self {
    case .unix(let path): ["type": "unix", "data": ["path": .string(path)]]
    case .inet(let host, let port):
      ["type": "inet", "data": ["host": .string(host), "port": .string(port)]]
    }
  }

  /// As `drive-mirror` takes it.
  func uri(exportName: String) -> String {
    switch self {
    case .unix(let path): "nbd:unix:\(path):exportname=\(exportName)"
    case .inet(let host, let port): "nbd:\(host):\(port):exportname=\(exportName)"
    }
  }
}

extension BlockNodeReport {
  init?(node value: JSONValue) {
    guard let name = value["node-name"]?.string,
      let size = value["image"]?["virtual-size"]?.uint64
    else { return nil }
    self.init(name: name, virtualSize: size, isReadOnly: value["ro"]?.bool ?? false)
  }

  init?(device value: JSONValue) {
    guard let name = value["device"]?.string, let medium = value["inserted"],
      let size = medium["image"]?["virtual-size"]?.uint64
    else { return nil }
    self.init(name: name, virtualSize: size, isReadOnly: medium["ro"]?.bool ?? false)
  }
}

extension BlockExportReport {
  init?(_ value: JSONValue) {
    guard let id = value["id"]?.string, let type = value["type"]?.string else { return nil }
    self.init(id: id, type: type, node: value["node-name"]?.string ?? "")
  }
}

extension BlockJobReport {
  init?(_ value: JSONValue) {
    guard let id = value["device"]?.string else { return nil }
    self.init(
      id: id, isReady: value["ready"]?.bool ?? false, length: value["len"]?.uint64 ?? 0,
      offset: value["offset"]?.uint64 ?? 0, status: value["status"]?.string ?? "",
      isActivelySynced: value["actively-synced"]?.bool, error: value["error"]?.string)
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
    case "BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED":
      guard let job = event.data["device"]?.string else {
        self = .other(event.name)
        return
      }
      switch event.name {
      case "BLOCK_JOB_READY": self = .blockJobReady(job: job)
      case "BLOCK_JOB_CANCELLED": self = .blockJobCancelled(job: job)
      default: self = .blockJobCompleted(job: job, error: event.data["error"]?.string)
      }
    case "JOB_STATUS_CHANGE":
      guard let job = event.data["id"]?.string, let status = event.data["status"]?.string else {
        self = .other(event.name)
        return
      }
      self = .jobStatusChanged(job: job, status: status)
    case "MIGRATION_PASS":
      self = event.data["pass"]?.uint64.map { .migrationPass($0) } ?? .other(event.name)
    default: self = .other(event.name)
    }
  }
}
