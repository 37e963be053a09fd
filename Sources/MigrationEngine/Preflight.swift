/// What both sides said before anything was changed, and what it means.
struct Preflight: Sendable {
  /// One side's answers.
  struct Answers: Sendable {
    var release: QEMURelease?
    var runState: RunState?
    var migration: MigrationReport?
    var capabilities: [CapabilitySetting]?
    var parameters: [ParameterSetting]?
    var machineType: String?
    var memoryBytes: UInt64?
    /// The names of `query-commands`.
    var commands: [String]?
    var blockJobs: [BlockJobReport]?
    var exports: [BlockExportReport]?

    /// Exports that stopping the NBD server does not end. QEMU does not say which may write.
    var foreignExports: [BlockExportReport] { exports?.filter { $0.type != "nbd" } ?? [] }

    /// One of them that reaches a disk which moves: an outside writer that nobody ends (I3).
    func foreignExport(ofAny disks: [DiskOptions]) -> BlockExportReport? {
      foreignExports.first { export in disks.contains { $0.targetNode == export.node } }
    }

    var isComplete: Bool {
      runState != nil && migration != nil && capabilities != nil && parameters != nil
        && machineType != nil && memoryBytes != nil
    }
  }

  /// Oldest release that has all that the switchover needs (`announce-self`, OOB, late activation).
  static let oldestRelease = QEMURelease(4, 0)
  static func questions(_ side: Side, hasDisks: Bool) -> [Command] {
    let common: [Command] = [
      .queryStatus, .queryMigrate, .queryCapabilities, .queryParameters, .queryMachineType,
      .queryMemorySize,
    ]
    guard hasDisks else { return common }
    return common + (side == .source ? [.queryCommands, .queryBlockJobs] : [.queryBlockExports])
  }

  var source = Answers()
  var target = Answers()

  subscript(side: Side) -> Answers {
    get { side == .source ? source : target }
    set { if side == .source { source = newValue } else { target = newValue } }
  }

  var isComplete: Bool { source.isComplete && target.isComplete }

  mutating func take(_ answer: Answer, from side: Side) {
    switch answer {
    case .runState(let state): self[side].runState = state
    case .migration(let report): self[side].migration = report
    case .capabilities(let list): self[side].capabilities = list
    case .parameters(let list): self[side].parameters = list
    case .machineType(let name): self[side].machineType = name
    case .memorySize(let bytes): self[side].memoryBytes = bytes
    case .commands(let names): self[side].commands = names
    case .blockJobs(let jobs): self[side].blockJobs = jobs
    case .blockExports(let exports): self[side].exports = exports
    case .done, .unreadable, .blockNodes: break
    }
  }

  /// Whether the target waits for `migrate-incoming`, as far as it can be seen: QEMU shows neither a
  /// status nor, for uris that are no sockets, an address before the first byte arrives.
  var targetIsDeferred: Bool {
    target.migration?.status == MigrationStatus.none && target.migration?.listens == false
  }

  /// The first thing that forbids this migration, or nil.
  func verdict(_ options: MigrationOptions) -> Failure? {
    releaseTooOld() ?? sourceUnfit() ?? targetUnfit(options) ?? mismatch()
      ?? capabilityMissing(options) ?? settingImpossible(options) ?? storageUnfit(options.storage)
  }

  /// Things worth a warning, that forbid nothing.
  func remarks(hasOutOfBandMonitor: Bool, hasDisks: Bool) -> [String] {
    var remarks: [String] = []
    if let from = source.release, let to = target.release, to < from {
      remarks.append(
        "target runs QEMU \(to), older than the source's \(from): it must know the machine type and "
          + "every device of the guest")
    }
    if hasDisks, !hasOutOfBandMonitor {
      remarks.append(
        "source has no out-of-band monitor: an NBD connection that stalls at the switchover would "
          + "hold the guest until it is broken from outside")
    }
    for export in target.foreignExports {
      remarks.append(
        "target has a \(export.type) export '\(export.id)', which stopping the NBD server does not end"
      )
    }
    return remarks
  }

  private func releaseTooOld() -> Failure? {
    for side in Side.allCases {
      guard let release = self[side].release, release < Self.oldestRelease else { continue }
      return Failure(
        side == .source ? .sourceUnfit : .targetUnfit, side: side,
        text: "\(side) runs QEMU \(release); \(Self.oldestRelease) or later is needed")
    }
    return nil
  }

  private func sourceUnfit() -> Failure? {
    func unfit(_ text: String, command: String? = nil) -> Failure {
      Failure(.sourceUnfit, side: .source, command: command, text: text)
    }
    switch source.runState {
    case .running, .paused, .suspended, nil: break
    case .some(let state):
      return unfit(
        "source is in run state '\(state.qemuName)'; only running, paused and suspended guests migrate",
        command: "query-status")
    }
    if let status = source.migration?.status {
      switch status {
      case .none, .completed, .failed, .cancelled: break
      default:
        return unfit(
          "source has a migration in status '\(status.qemuName)' already", command: "query-migrate")
      }
    }
    if let reasons = source.migration?.blockedReasons, let first = reasons.first {
      let rest = reasons.count > 1 ? " (and \(reasons.count - 1) more)" : ""
      return unfit("source cannot be migrated: \(first)\(rest)", command: "query-migrate")
    }
    return nil
  }

  private func targetUnfit(_ options: MigrationOptions) -> Failure? {
    if let state = target.runState, state != .inmigrate {
      return Failure(
        .targetUnfit, side: .target, command: "query-status",
        text: "target is in run state '\(state.qemuName)', not waiting for a migration; "
          + "start it with -incoming")
    }
    if let status = target.migration?.status, status != .none, status != .setup {
      return Failure(
        .targetUnfit, side: .target, command: "query-migrate",
        text: "target has a migration in status '\(status.qemuName)' already")
    }
    if options.capabilities.contains(where: { $0.name == "multifd" && $0.on }), !targetIsDeferred {
      return Failure(
        .targetUnfit, side: .target, command: "query-migrate",
        text: "multifd needs a target started with -incoming defer")
    }
    return nil
  }

  private func mismatch() -> Failure? {
    if let from = source.machineType, let to = target.machineType, from != to {
      return Failure(
        .mismatch, text: "machine types differ: source '\(from)', target '\(to)'")
    }
    if let from = source.memoryBytes, let to = target.memoryBytes, from != to {
      return Failure(
        .mismatch, text: "memory sizes differ: source \(from) bytes, target \(to) bytes")
    }
    return nil
  }

  private func capabilityMissing(_ options: MigrationOptions) -> Failure? {
    for side in Side.allCases {
      guard let list = self[side].capabilities else { continue }
      let code: FailureCode = side == .source ? .sourceUnfit : .targetUnfit
      let wanted = ["events", "return-path"] + options.capabilities.filter(\.on).map(\.name)
      if let missing = wanted.first(where: { name in !list.contains { $0.name == name } }) {
        return Failure(
          code, side: side, command: "query-migrate-capabilities",
          text: "\(side)'s QEMU has no migration capability '\(missing)'")
      }
      if list.contains(where: { $0.name == "postcopy-ram" && $0.on }) {
        return Failure(
          code, side: side, command: "query-migrate-capabilities",
          text: "\(side) has postcopy-ram on: the target would run before the source is done")
      }
    }
    return nil
  }

  private func storageUnfit(_ storage: StorageOptions) -> Failure? {
    guard !storage.disks.isEmpty else { return nil }
    if let commands = source.commands, !commands.contains("block-job-cancel") {
      return Failure(
        .sourceUnfit, side: .source, command: "query-commands",
        text: "source's QEMU has no 'block-job-cancel': a mirror could only be ended by a pivot")
    }
    if let list = source.capabilities,
      !list.contains(where: { $0.name == "pause-before-switchover" })
    {
      return Failure(
        .sourceUnfit, side: .source, command: "query-migrate-capabilities",
        text: "source's QEMU has no migration capability 'pause-before-switchover'")
    }
    if let export = target.foreignExport(ofAny: storage.disks) {
      return Failure(
        .targetUnfit, side: .target, command: "query-block-exports",
        text: "target has a \(export.type) export '\(export.id)' of '\(export.node)': an outside "
          + "writer that stopping the NBD server does not end (I3)")
    }
    for (index, disk) in storage.disks.enumerated() {
      switch disk.mirror {
      case .takenOver(let job, _, _):
        if let jobs = source.blockJobs, !jobs.contains(where: { $0.id == job }) {
          return Failure(
            .sourceUnfit, side: .source, command: "query-block-jobs",
            text: "source has no block job '\(job)' for disk '\(disk.device)'")
        }
      case .started:
        if let jobs = source.blockJobs, jobs.contains(where: { $0.id == MirrorNames.job(index) }) {
          return Failure(
            .sourceUnfit, side: .source, command: "query-block-jobs",
            text:
              "source has a block job '\(MirrorNames.job(index))' already, from an earlier migration"
          )
        }
      }
    }
    return nil
  }

  private func settingImpossible(_ options: MigrationOptions) -> Failure? {
    for setting in options.parameters {
      for side in Side.allCases {
        guard let list = self[side].parameters, !list.contains(where: { $0.name == setting.name })
        else { continue }
        return Failure(
          side == .source ? .sourceUnfit : .targetUnfit, side: side,
          command: "query-migrate-parameters",
          text: "\(side)'s QEMU has no migration parameter '\(setting.name)'")
      }
    }
    return nil
  }
}
