import CSwitchover

/// One recovery of the library.
final class Recovery {
  private let handle: OpaquePointer
  private let loop: Loop
  private let isDryRun: Bool

  /// Makes a recovery with everything that the plan says.
  init(_ plan: RecoveryPlan, in loop: Loop) throws {
    var recovery: OpaquePointer?
    try LibraryError.check(swo_recovery_new(loop.handle, &recovery))
    guard let recovery else {
      throw LibraryError(code: swo_code.SWO_E_INTERNAL.rawValue, text: "")
    }
    handle = recovery
    self.loop = loop
    isDryRun = plan.isDryRun
    try apply(plan)
  }

  deinit {
    swo_recovery_free(handle)
  }

  func start() throws { try LibraryError.check(swo_recovery_start(handle)) }

  /// What it came to.
  var outcome: RecoveryOutcome {
    let (owner, guest) = (swo_recovery_owner(handle), swo_recovery_guest(handle))
    let decision = swo_recovery_decision(handle)
    return RecoveryOutcome(
      decision: Word(code: decision, name: libraryText(swo_recovery_action_name(decision))),
      owner: Word(code: owner, name: libraryText(swo_owner_name(owner))),
      guest: Word(code: guest, name: libraryText(swo_guest_name(guest))),
      rule: libraryText(swo_recovery_rule(handle)), text: libraryText(swo_recovery_text(handle)),
      nextStep: libraryText(swo_recovery_next_step(handle)),
      words: list(swo_recovery_word), findings: list(swo_recovery_finding),
      deeds: list(swo_recovery_deed), isDryRun: isDryRun)
  }

  private func list(
    _ entry: (OpaquePointer?, Int32) -> UnsafePointer<CChar>?
  ) -> [String] {
    var texts: [String] = []
    while let text = entry(handle, Int32(texts.count)) { texts.append(libraryText(text)) }
    return texts
  }

  private func apply(_ plan: RecoveryPlan) throws {
    if let journal = plan.journal {
      try LibraryError.check(swo_recovery_set_journal(handle, journal))
    }
    for (side, address) in [(Side.source, plan.source), (.target, plan.target)] {
      guard let address else { continue }
      try LibraryError.check(
        swo_recovery_set_monitor(handle, side.libraryValue.number, address))
    }
    if let address = plan.outOfBandMonitor {
      try LibraryError.check(swo_recovery_set_oob_monitor(handle, address))
    }
    for side in plan.fenced {
      try LibraryError.check(swo_recovery_set_fenced(handle, side.libraryValue.number))
    }
    if let ownership = plan.ownership {
      try LibraryError.check(
        swo_recovery_set_ownership(handle, ownership.libraryValue.number))
    }
    if let ran = plan.guestRan {
      try LibraryError.check(swo_recovery_set_guest_ran(handle, ran ? 1 : 0))
    }
    if plan.targetNeverRan {
      try LibraryError.check(swo_recovery_set_target_never_ran(handle))
    }
    if plan.isDryRun { try LibraryError.check(swo_recovery_set_dry_run(handle, 1)) }
    if let limit = plan.settleMilliseconds {
      try LibraryError.check(
        swo_recovery_set_settle_limit(handle, UInt32(clamping: limit)))
    }
  }

  /// The rows of the table that decides, each cell as text.
  static var table: [[swo_recovery_column: String]] {
    let columns: [swo_recovery_column] = [
      .SWO_RECOVERY_COLUMN_RULE, .SWO_RECOVERY_COLUMN_SOURCE, .SWO_RECOVERY_COLUMN_TARGET,
      .SWO_RECOVERY_COLUMN_CLUSTER, .SWO_RECOVERY_COLUMN_GUEST_RUN,
      .SWO_RECOVERY_COLUMN_TARGET_PAST, .SWO_RECOVERY_COLUMN_ACTION, .SWO_RECOVERY_COLUMN_OWNER,
      .SWO_RECOVERY_COLUMN_GUEST, .SWO_RECOVERY_COLUMN_MEANING, .SWO_RECOVERY_COLUMN_TO_DO,
      .SWO_RECOVERY_COLUMN_WORDS,
    ]
    return (0..<max(0, swo_recovery_table_count())).map { row in
      var cells: [swo_recovery_column: String] = [:]
      for column in columns { cells[column] = cell(row, column) }
      return cells
    }
  }

  private static func cell(_ row: Int32, _ column: swo_recovery_column) -> String {
    let length = swo_recovery_table_cell(row, column.number, nil, 0)
    guard length > 0 else { return "" }
    var buffer = [CChar](repeating: 0, count: Int(length) + 1)
    _ = swo_recovery_table_cell(row, column.number, &buffer, buffer.count)
    return String(
      decoding: buffer.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}

/// How a recovery ended.
struct RecoveryOutcome: Equatable {
  /// One of `swo_recovery_action`.
  var decision: Word
  var owner: Word
  var guest: Word
  var rule: String
  var text: String
  var nextStep: String
  /// Options of this command that would help.
  var words: [String]
  var findings: [String]
  var deeds: [String]
  /// Nothing was changed: the decision is what would be done.
  var isDryRun: Bool

  /// Whether a person has to do something before the guest has one owner.
  var isAsking: Bool {
    decision.code == swo_recovery_action.SWO_RECOVERY_ASK.number
      || decision.code == swo_recovery_action.SWO_RECOVERY_WAIT.number
  }

  var exitStatus: ExitStatus {
    let owned = [swo_owner.SWO_OWNER_SOURCE.number, swo_owner.SWO_OWNER_TARGET.number]
    if !isAsking, isDryRun || owned.contains(owner.code) { return .asAsked }
    return ExitStatus(end: swo_end.SWO_END_FAILED.number, owner: owner.code)
  }
}
