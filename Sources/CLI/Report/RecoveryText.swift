/// What is told about recoveries and journals.
enum RecoveryText {
  /// What was found and done, and how it ended: for a person.
  static func utterances(
    _ outcome: RecoveryOutcome, _ plan: RecoveryPlan, resultStyle: Style, errorStyle: Style,
    isQuiet: Bool
  ) -> [Utterance] {
    let facts = (outcome.findings + outcome.deeds.map { "done: \($0)" }).map(Utterance.remark)
    let owner = "owner: \(outcome.owner.name), guest \(outcome.guest.name)"
    if outcome.exitStatus == .asAsked {
      guard !isQuiet else { return [] }
      let decision =
        plan.isDryRun && outcome.decision.name != "nothing"
        ? "; would: \(outcome.decision.name)" : ""
      let line =
        "\(resultStyle.paint(resultStyle.tick, .green)) \(outcome.text); \(owner)\(decision)"
      return facts + [.result(line)] + next(outcome, plan)
    }
    let cross = errorStyle.paint(errorStyle.cross, .red)
    return facts + [.remark("\(cross) switchover: \(outcome.text); \(owner)")] + next(outcome, plan)
  }

  /// What a person has to do, and the commands for then.
  private static func next(_ outcome: RecoveryOutcome, _ plan: RecoveryPlan) -> [Utterance] {
    if plan.isDryRun, !outcome.isAsking, outcome.decision.name != "nothing" {
      return [.remark("next: \(plan.commandLine)")]
    }
    guard !outcome.nextStep.isEmpty else { return [] }
    let commands = outcome.words.map { "  \(plan.commandLine) \($0)" }
    return ([("next: \(outcome.nextStep)")] + commands).map(Utterance.remark)
  }

  /// The same for a program.
  static func object(_ outcome: RecoveryOutcome, _ plan: RecoveryPlan) -> JSONValue {
    .object([
      ("event", .string("finished")), ("decision", .string(outcome.decision.name)),
      ("owner", .string(outcome.owner.name)), ("guest", .string(outcome.guest.name)),
      ("exit_status", .integer(Int64(outcome.exitStatus.rawValue))),
      ("rule", .string(outcome.rule)), ("text", .string(outcome.text)),
      ("next_step", .string(outcome.nextStep)),
      ("words", .array(outcome.words.map(JSONValue.string))),
      ("findings", .array(outcome.findings.map(JSONValue.string))),
      ("deeds", .array(outcome.deeds.map(JSONValue.string))),
      ("journal", plan.journal.map(JSONValue.string) ?? .null), ("dry_run", .bool(plan.isDryRun)),
    ])
  }

  // MARK: - Journals

  /// One journal of a folder, for a person.
  static func line(_ journal: JournalSummary) -> String {
    let name = journal.name.isEmpty ? "" : " (\(journal.name))"
    switch journal.state {
    case .held: return "in progress  \(journal.path): a live process works with it"
    case .open(nil): return "open         \(journal.path)\(name): its migration was abandoned"
    case .open(let outcome?): return "open         \(journal.path)\(name): \(outcome)"
    case .settled(let owner): return "settled      \(journal.path)\(name): owner \(owner)"
    case .unusable(let text): return "unusable     \(journal.path): \(text)"
    }
  }

  /// The same for a program.
  static func object(_ journal: JournalSummary) -> JSONValue {
    var text = ""
    let state: String
    switch journal.state {
    case .held: state = "held"
    case .open(let outcome):
      state = "open"
      text = outcome ?? ""
    case .settled(let owner):
      state = "settled"
      text = "owner \(owner)"
    case .unusable(let reason):
      state = "unusable"
      text = reason
    }
    return .object([
      ("event", .string("journal")), ("path", .string(journal.path)), ("state", .string(state)),
      ("name", .string(journal.name)), ("text", .string(text)),
      ("source", .string(journal.source)), ("target", .string(journal.target)),
      ("next_step", .string(journal.nextStep)),
    ])
  }
}
