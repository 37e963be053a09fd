/// What one QEMU had before we changed it, so that it can be put back.
struct Settings: Sendable {
  private var capabilities: [CapabilitySetting] = []
  private var parameters: [ParameterSetting] = []
  private(set) var capabilitiesToRestore: [CapabilitySetting] = []
  private(set) var parametersToRestore: [ParameterSetting] = []

  /// Takes what `query-migrate-capabilities` and `query-migrate-parameters` said.
  mutating func found(
    capabilities: [CapabilitySetting], parameters: [ParameterSetting]
  ) {
    self.capabilities = capabilities
    self.parameters = parameters
  }

  func offers(capability name: String) -> Bool { capabilities.contains { $0.name == name } }

  func isOn(capability name: String) -> Bool {
    capabilities.contains { $0.name == name && $0.on }
  }

  func value(ofParameter name: String) -> ParameterValue? {
    parameters.first { $0.name == name }?.value
  }

  /// The part of `wanted` that differs from what was found; it is remembered for putting back.
  mutating func changes(toReach wanted: [CapabilitySetting]) -> [CapabilitySetting] {
    var changes: [CapabilitySetting] = []
    for setting in wanted {
      guard let before = capabilities.first(where: { $0.name == setting.name }),
        before.on != setting.on
      else { continue }
      changes.append(setting)
      if !capabilitiesToRestore.contains(where: { $0.name == before.name }) {
        capabilitiesToRestore.append(before)
      }
    }
    return changes
  }

  /// The same for parameters. One that QEMU did not list cannot be put back, and is set all the same.
  mutating func changes(toReach wanted: [ParameterSetting]) -> [ParameterSetting] {
    var changes: [ParameterSetting] = []
    for setting in wanted {
      let before = parameters.first { $0.name == setting.name }
      if before?.value == setting.value { continue }
      changes.append(setting)
      if let before, !parametersToRestore.contains(where: { $0.name == before.name }) {
        parametersToRestore.append(before)
      }
    }
    return changes
  }

  /// A parameter that may be changed on the way, and is put back at the end.
  mutating func willRamp(_ name: String) {
    guard let before = parameters.first(where: { $0.name == name }),
      !parametersToRestore.contains(where: { $0.name == name })
    else { return }
    parametersToRestore.append(before)
  }

  var hasSomethingToRestore: Bool {
    !capabilitiesToRestore.isEmpty || !parametersToRestore.isEmpty
  }

  /// The commands that put everything back.
  var restoringCommands: [Command] {
    var commands: [Command] = []
    if !capabilitiesToRestore.isEmpty { commands.append(.setCapabilities(capabilitiesToRestore)) }
    if !parametersToRestore.isEmpty { commands.append(.setParameters(parametersToRestore)) }
    return commands
  }
}
