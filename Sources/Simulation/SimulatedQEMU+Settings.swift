import MigrationEngine
import QMP

// Capabilities, parameters, and what `query-migrate` says.

extension SimulatedQEMU {
  func setCapabilities(_ arguments: inout CommandArguments) throws(QMPCommandError) {
    let list = try arguments.array("capabilities")
    try arguments.finish()
    var wanted: [(index: Int, isOn: Bool)] = []
    for (position, entry) in list.enumerated() {
      guard let name = entry["capability"]?.string else {
        throw CommandArguments.missing("capabilities[\(position)].capability")
      }
      guard let index = capabilities.firstIndex(where: { $0.name == name }) else {
        throw .generic("Parameter 'capability' does not accept value '\(name)'")
      }
      guard let state = entry["state"] else {
        throw CommandArguments.missing("capabilities[\(position)].state")
      }
      guard let isOn = state.bool else {
        throw CommandArguments.wrongType("capabilities[\(position)].state", "boolean")
      }
      wanted.append((index, isOn))
    }
    guard !outgoing.isUnderway else {
      throw .generic("There's a migration process in progress")
    }
    for setting in wanted where setting.isOn && !capabilities[setting.index].isOn {
      if capabilities[setting.index].name == "multifd", configuration.release == .qemu100,
        incoming.stage == .listening
      {
        throw .generic("Multifd must be set before incoming starts")
      }
    }
    for setting in wanted { capabilities[setting.index].isOn = setting.isOn }
  }

  func setParameters(_ arguments: inout CommandArguments) throws(QMPCommandError) {
    for member in arguments.object {
      guard let known = parameters[member.name] else {
        throw .generic("Parameter '\(member.name)' is unexpected")
      }
      switch known {
      case .bool where member.value.bool == nil:
        throw CommandArguments.wrongType(member.name, "boolean")
      case .integer, .unsigned:
        guard member.value.int64 != nil || member.value.uint64 != nil else {
          throw .generic("Parameter '\(member.name)' expects uint64")
        }
      case .string where member.value.string == nil:
        throw CommandArguments.wrongType(member.name, "string")
      default: break
      }
    }
    if let limit = arguments.object["downtime-limit"], !(0...2_000_000).contains(limit.int64 ?? -1)
    {
      throw .generic(
        "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms")
    }
    for member in arguments.object { parameters[member.name] = member.value }
  }

  // MARK: - query-migrate

  var migrationReport: JSONObject {
    var report = configuration.incoming == .none ? outgoingReport : incomingReport
    if !configuration.migrationBlockers.isEmpty {
      report["blocked-reasons"] = .array(
        configuration.migrationBlockers.map { .string($0) })
    }
    return report
  }

  private var incomingReport: JSONObject {
    var report = JSONObject()
    switch incoming.stage {
    case .none: break
    case .deferred, .listening:
      let isAsked = configuration.incoming != .deferred || incoming.wasAsked
      if configuration.release == .qemu100, isAsked { report["status"] = "setup" }
    case .receiving, .loading: report["status"] = "active"
    case .loaded:
      report["status"] = "completed"
      // The listener's address is forgotten with the incoming migration.
      return report
    case .failed: report["status"] = "failed"
    }
    if let address = incoming.address, address.hasPrefix("unix:") {
      report["socket-address"] = [
        ["path": .string(String(address.dropFirst(5))), "type": "unix"]
      ]
    }
    return report
  }

  private var outgoingReport: JSONObject {
    guard outgoing.status != .none else { return [:] }
    var report: JSONObject = ["status": .string(outgoing.status.rawValue)]
    switch outgoing.status {
    case .none, .setup, .failed, .cancelled: break
    case .active, .cancelling, .device, .preSwitchover:
      report["expected-downtime"] = 300
      report["setup-time"] = .integer((outgoing.connectedAt - outgoing.startedAt).milliseconds)
      report["total-time"] = .integer((now - outgoing.startedAt).milliseconds)
      report["ram"] = .object(memoryReport)
    case .completed:
      report["setup-time"] = .integer((outgoing.connectedAt - outgoing.startedAt).milliseconds)
      report["downtime"] = .integer(
        outgoing.stoppedAt.map { (outgoing.endedAt - $0).milliseconds } ?? 0)
      report["total-time"] = .integer((outgoing.endedAt - outgoing.startedAt).milliseconds)
      report["ram"] = .object(memoryReport)
    }
    if let error = outgoing.error { report["error-desc"] = .string(error) }
    return report
  }

  private var memoryReport: JSONObject {
    let used = configuration.timing.usedMemoryBytes
    let untouched = configuration.memoryBytes - min(used, configuration.memoryBytes)
    return [
      "total": JSONValue(configuration.memoryBytes), "postcopy-requests": 0,
      "dirty-sync-count": JSONValue(outgoing.pass), "multifd-bytes": 0, "pages-per-second": 0,
      "downtime-bytes": 0, "page-size": 4096, "remaining": JSONValue(outgoing.remaining),
      "postcopy-bytes": 0,
      "mbps": .number(outgoing.rate / 125_000),
      "transferred": JSONValue(outgoing.transferred), "dirty-sync-missed-zero-copy": 0,
      "precopy-bytes": JSONValue(outgoing.transferred), "duplicate": JSONValue(untouched / 4096),
      "dirty-pages-rate": JSONValue(
        outgoing.pass < 2 ? 0 : configuration.timing.dirtyBytesPerSecond / 4096), "skipped": 0,
      "normal-bytes": JSONValue(outgoing.transferred),
      "normal": JSONValue(outgoing.transferred / 4096),
    ]
  }
}
