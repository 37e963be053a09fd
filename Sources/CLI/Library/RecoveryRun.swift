import Glibc

/// A recovery from its start to its result, told to the operator, with the command that may prove a
/// side dead.
struct RecoveryRun {
  var plan: RecoveryPlan
  var fence: FenceCommand?
  var report: ReportArguments
  var signals: SignalPipe

  /// Recovers, and again with what the command has proven; fails with the status of how it ended.
  func run() throws {
    var plan = plan
    var asked: [Side] = []
    let known = plan.journal.map(JournalSummary.init)
    while true {
      let outcome = try recover(plan)
      guard let fence, let side = sideToFence(outcome, plan, asked) else {
        return try conclude(outcome, plan)
      }
      asked.append(side)
      let doubt = try fence.doubt(about: side, journal: known, plan: plan, signals: signals)
      if let doubt {
        tell(.warned("the \(side.rawValue) is not proven dead: \(doubt)"))
        return try conclude(outcome, plan)
      }
      tell(.logged("the \(side.rawValue) is fenced, by the command's word"))
      plan.fenced.append(side)
    }
  }

  private func recover(_ plan: RecoveryPlan) throws -> RecoveryOutcome {
    let driver = try RecoveryDriver(plan, signals: signals, tell: tell)
    guard let outcome = try driver.run() else {
      throw CommandFailure(
        .ownerUnknown, "interrupted; next: \(plan.commandLine), which looks again")
    }
    return outcome
  }

  /// The side that the command is to prove dead: one that recovery asks about, once each.
  private func sideToFence(
    _ outcome: RecoveryOutcome, _ plan: RecoveryPlan, _ asked: [Side]
  ) -> Side? {
    guard outcome.isAsking, !plan.isDryRun else { return nil }
    return Side.allCases.first { side in
      !plan.fenced.contains(side) && !asked.contains(side)
        && outcome.words.contains("--fenced \(side.rawValue)")
    }
  }

  private func conclude(_ outcome: RecoveryOutcome, _ plan: RecoveryPlan) throws {
    if report.json {
      writeAll(RecoveryText.object(outcome, plan).line + "\n", to: STDOUT_FILENO)
    } else {
      let outputs = Outputs()
      outputs.say(
        RecoveryText.utterances(
          outcome, plan, resultStyle: Style(of: 1), errorStyle: Style(of: 2),
          isQuiet: report.quiet))
      outputs.drain()
    }
    guard outcome.exitStatus == .asAsked else { throw CommandFailure(outcome.exitStatus) }
  }

  private func tell(_ news: RecoveryDriver.News) {
    switch news {
    case .warned(let text) where report.json: writeEvent("warning", text)
    case .logged(let text) where report.json: writeEvent("log", text)
    case .warned(let text): remark("warning: \(text)")
    case .logged(let text): if report.verbose { remark(text) }
    }
  }

  private func remark(_ text: String) {
    writeAll("switchover: \(text)\n", to: STDERR_FILENO)
  }

  private func writeEvent(_ event: String, _ text: String) {
    let line = JSONValue.object([("event", .string(event)), ("text", .string(text))]).line
    writeAll(line + "\n", to: STDOUT_FILENO)
  }
}
