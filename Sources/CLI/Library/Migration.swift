import CSwitchover

/// One migration of the library.
final class Migration {
  private let handle: OpaquePointer
  private let loop: Loop
  private let journal: String?

  /// Makes a migration with everything that the plan says.
  init(_ plan: MigrationPlan, in loop: Loop) throws {
    var migration: OpaquePointer?
    try LibraryError.check(swo_migration_new(loop.handle, &migration))
    guard let migration else {
      throw LibraryError(code: swo_code.SWO_E_INTERNAL.rawValue, text: "")
    }
    handle = migration
    self.loop = loop
    journal = plan.journal
    try apply(plan)
  }

  deinit {
    swo_migration_free(handle)
  }

  func start() throws { try LibraryError.check(swo_migration_start(handle)) }
  func check() throws { try LibraryError.check(swo_migration_check(handle)) }

  /// Asks for an end with the guest on the source; a `LibraryError` says that it is too late.
  func cancel() throws { try LibraryError.check(swo_migration_cancel(handle)) }

  func handedOver(_ result: HandOverResult) throws {
    try LibraryError.check(swo_migration_handed_over(handle, result.libraryValue.number))
  }

  var phase: Int32 { swo_migration_phase(handle) }

  /// Everything that is known now.
  var snapshot: MigrationSnapshot {
    let end = swo_migration_end(handle)
    let owner = swo_migration_owner(handle)
    let guest = swo_migration_guest(handle)
    return MigrationSnapshot(
      phase: .phase(phase),
      end: Word(code: end, name: libraryText(swo_end_name(end))),
      owner: Word(code: owner, name: libraryText(swo_owner_name(owner))),
      guest: Word(code: guest, name: libraryText(swo_guest_name(guest))),
      figures: figures, disks: disks, ledger: ledger, failure: failure, journal: journal,
      nextStep: libraryText(swo_migration_next_step(handle)),
      summary: libraryText(swo_migration_summary(handle)))
  }

  private var figures: Figures {
    var figures = Figures()
    for figure in Figure.allCases {
      var value: UInt64 = 0
      if swo_migration_number(handle, figure.rawValue, &value) == 0 { figures[figure] = value }
    }
    return figures
  }

  private var disks: [DiskFigures] {
    (0..<max(0, swo_migration_disk_count(handle))).compactMap { index in
      var device: UnsafePointer<CChar>?
      var (copied, total): (UInt64, UInt64) = (0, 0)
      guard swo_migration_disk(handle, index, &device, &copied, &total) == 0 else { return nil }
      return DiskFigures(device: libraryText(device), copiedBytes: copied, totalBytes: total)
    }
  }

  private var ledger: [LedgerPart] {
    (0..<max(0, swo_migration_ledger_count(handle))).compactMap { index in
      var name: UnsafePointer<CChar>?
      var (start, length): (Int64, Int64) = (0, 0)
      guard swo_migration_ledger_part(handle, index, &name, &start, &length) == 0 else {
        return nil
      }
      return LedgerPart(
        name: libraryText(name), startMicroseconds: start, lengthMicroseconds: length)
    }
  }

  private var failure: FailureReport? {
    let code = swo_migration_failure(handle)
    guard code != swo_failure.SWO_FAILURE_NONE.number else { return nil }
    let side: String? =
      switch swo_migration_failure_side(handle) {
      case swo_side.SWO_SIDE_SOURCE.number: "source"
      case swo_side.SWO_SIDE_TARGET.number: "target"
      default: nil
      }
    return FailureReport(
      code: code, name: libraryText(swo_failure_name(code)), side: side,
      command: libraryText(swo_migration_failure_command(handle)),
      errorClass: libraryText(swo_migration_failure_class(handle)),
      text: libraryText(swo_migration_failure_text(handle)))
  }
}

extension Migration {
  private func apply(_ plan: MigrationPlan) throws {
    let sides = [(swo_side.SWO_SIDE_SOURCE, plan.source), (.SWO_SIDE_TARGET, plan.target)]
    for (side, address) in sides {
      try LibraryError.check(swo_migration_set_monitor(handle, side.number, address))
    }
    if plan.sourceMonitorIsShared {
      try LibraryError.check(
        swo_migration_set_monitor_sharing(
          handle, swo_side.SWO_SIDE_SOURCE.number, swo_monitor_sharing.SWO_MONITOR_SHARED.number))
    }
    if let address = plan.outOfBandMonitor {
      try LibraryError.check(swo_migration_set_oob_monitor(handle, address))
    }
    if let name = plan.name { try LibraryError.check(swo_migration_set_name(handle, name)) }
    try LibraryError.check(swo_migration_set_uri(handle, plan.uri))
    if let uri = plan.incomingURI {
      try LibraryError.check(swo_migration_set_incoming_uri(handle, uri))
    }
    try LibraryError.check(
      swo_migration_set_hand_over(handle, plan.handOver.libraryValue.number))
    if plan.handOver != .external {
      try LibraryError.check(
        swo_migration_set_source_end(handle, plan.sourceEnd.libraryValue.number))
    }
    try applyTuning(plan.tuning)
    try applyStorage(plan.storage)
    if let journal = plan.journal {
      try LibraryError.check(swo_migration_set_journal(handle, journal))
    }
  }

  private func applyTuning(_ tuning: MigrationPlan.Tuning) throws {
    if let limit = tuning.downtimeLimitMilliseconds {
      try LibraryError.check(
        swo_migration_set_downtime_limit(
          handle, limit, tuning.highestDowntimeLimitMilliseconds))
    }
    if let bandwidth = tuning.bytesPerSecond {
      try LibraryError.check(swo_migration_set_bandwidth(handle, bandwidth))
    }
    for capability in tuning.capabilities {
      try LibraryError.check(
        swo_migration_set_capability(handle, capability.name, capability.isOn ? 1 : 0))
    }
    for parameter in tuning.parameters {
      try LibraryError.check(
        swo_migration_set_parameter(handle, parameter.name, parameter.json))
    }
    if let deadline = tuning.transferDeadlineMilliseconds {
      try LibraryError.check(swo_migration_set_transfer_deadline(handle, deadline))
    }
  }

  private func applyStorage(_ storage: MigrationPlan.Storage) throws {
    guard !storage.isEmpty else { return }
    if let address = storage.address {
      try LibraryError.check(
        Self.withOptional(storage.listenAddress) { swo_migration_set_nbd(handle, address, $0) })
    }
    for disk in storage.disks {
      try LibraryError.check(
        Self.withOptional(disk.targetNode) {
          swo_migration_add_disk(
            handle, disk.device, disk.exportName, $0, disk.bytesPerSecond)
        })
    }
    for mirror in storage.takenOver {
      try LibraryError.check(
        Self.withOptional(mirror.node) {
          swo_migration_take_over_mirror(
            handle, mirror.device, mirror.jobID, mirror.isWriteBlocking ? 1 : 0, $0)
        })
    }
    if let deadline = storage.syncDeadlineMilliseconds {
      try LibraryError.check(swo_migration_set_sync_deadline(handle, deadline))
    }
    try LibraryError.check(
      swo_migration_set_sync_policy(handle, storage.syncPolicy.libraryValue.number))
    try LibraryError.check(
      swo_migration_set_storage_limits(
        handle, storage.yankMilliseconds, storage.drainMilliseconds))
    try LibraryError.check(
      swo_migration_set_fast_order(handle, storage.allowsFastOrder ? 1 : 0))
  }

  /// A text that may be absent, as the library takes it.
  private static func withOptional(
    _ text: String?, _ body: (UnsafePointer<CChar>?) -> Int32
  ) -> Int32 {
    guard let text else { return body(nil) }
    return text.withCString(body)
  }
}

extension Word {
  /// One of `swo_phase`.
  static func phase(_ code: Int32) -> Word {
    Word(code: code, name: libraryText(swo_phase_name(code)))
  }
}
