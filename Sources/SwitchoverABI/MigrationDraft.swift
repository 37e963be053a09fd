import CSwitchover
import MigrationEngine
import MigrationSession
import QMP

/// What the setters of a migration collect before its start.
struct MigrationDraft {
  static let nameLimit = 128

  var options = MigrationOptions()
  var sourceMonitor: Endpoint?
  var targetMonitor: Endpoint?
  var sourceOutOfBand: Endpoint?
  var journalPath: String?
  var hasSourceEnd = false

  mutating func add(_ disk: DiskOptions) throws(CallFailure) {
    guard options.storage.disks.count < StorageOptions.maximumDisks else {
      throw CallFailure(.SWO_E_LIMIT, "more than \(StorageOptions.maximumDisks) disks")
    }
    guard !options.storage.disks.contains(where: { $0.device == disk.device }) else {
      throw .invalid("the disk '\(disk.device)' was added before")
    }
    options.storage.disks.append(disk)
  }

  mutating func setCapability(_ name: String, on: Bool) throws(CallFailure) {
    if MigrationOptions.reservedCapabilities.contains(name) {
      throw .invalid("the switchover itself decides about the capability '\(name)'")
    }
    if let index = options.capabilities.firstIndex(where: { $0.name == name }) {
      options.capabilities[index].on = on
      return
    }
    guard options.capabilities.count < MigrationOptions.maximumSettings else {
      throw CallFailure(
        .SWO_E_LIMIT, "more than \(MigrationOptions.maximumSettings) capabilities")
    }
    options.capabilities.append((name, on))
  }

  mutating func setParameter(_ name: String, json: String) throws(CallFailure) {
    let value = try Self.parameterValue(json, name)
    if let index = options.parameters.firstIndex(where: { $0.name == name }) {
      options.parameters[index].value = value
      return
    }
    guard options.parameters.count < MigrationOptions.maximumSettings else {
      throw CallFailure(.SWO_E_LIMIT, "more than \(MigrationOptions.maximumSettings) parameters")
    }
    options.parameters.append((name, value))
  }

  /// What a session needs; names the setter that is missing.
  func configuration(checkOnly: Bool) throws(CallFailure) -> SessionConfiguration {
    guard let sourceMonitor else {
      throw .invalid("swo_migration_set_monitor is missing for the source")
    }
    guard let targetMonitor else {
      throw .invalid("swo_migration_set_monitor is missing for the target")
    }
    if options.sourceMonitorIsShared, case .descriptor = sourceMonitor {
      throw .invalid("a source monitor that is a descriptor cannot be shared: it opens once")
    }
    var options = options
    options.checkOnly = checkOnly
    options.isJournaled = journalPath != nil && !checkOnly
    if options.storage.address == nil,
      options.storage.disks.contains(where: { $0.mirror == .started })
    {
      throw .invalid("swo_migration_set_nbd is missing: there are disks to mirror")
    }
    if options.handOver == .external { options.sourceEnd = .keep }
    if !checkOnly {
      if options.uri.isEmpty { throw .invalid("swo_migration_set_uri is missing") }
      if !hasSourceEnd, options.handOver != .external {
        throw .invalid("swo_migration_set_source_end is missing")
      }
    }
    var configuration = SessionConfiguration(
      options: options, sourceMonitor: sourceMonitor, targetMonitor: targetMonitor)
    configuration.sourceOutOfBand = sourceOutOfBand
    return configuration
  }

  private static func parameterValue(
    _ json: String, _ name: String
  ) throws(CallFailure) -> ParameterValue {
    switch try jsonValue(json, "the value of '\(name)'") {
    case .bool(let value): return .boolean(value)
    case .integer(let value): return .integer(value)
    case .unsigned(let value): return .unsigned(value)
    case .string(let value): return .string(value)
    case .null, .number, .array, .object:
      throw .invalid("the value of '\(name)' is neither an integer, a boolean nor a string")
    }
  }
}

/// The one JSON value that a text holds.
func jsonValue(_ json: String, _ what: String) throws(CallFailure) -> JSONValue {
  let bytes = Array(json.utf8)
  let result = bytes.withUnsafeBytes { raw in
    Result { () throws(JSONParseError) in try JSONText.decode(raw) }
  }
  switch result {
  case .success(let value): return value
  case .failure(let error):
    throw .invalid("\(what) is not JSON: \(error.text) at byte \(error.offset)")
  }
}
