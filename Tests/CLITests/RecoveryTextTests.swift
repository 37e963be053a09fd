import CSwitchover
import Testing

@testable import CLI

/// What `switchover recover` tells.
struct RecoveryTextTests {
  private func outcome(
    _ decision: swo_recovery_action, owner: swo_owner, words: [String] = [],
    nextStep: String = "", isDryRun: Bool = false
  ) -> RecoveryOutcome {
    RecoveryOutcome(
      decision: Word(
        code: decision.number, name: libraryText(swo_recovery_action_name(decision.number))),
      owner: Word(code: owner.number, name: libraryText(swo_owner_name(owner.number))),
      guest: Word(code: 2, name: "paused"), rule: "rule", text: "what it means",
      nextStep: nextStep, words: words, findings: ["source: found"], deeds: ["did something"],
      isDryRun: isDryRun)
  }

  private func told(_ outcome: RecoveryOutcome, _ plan: RecoveryPlan = plan) -> [Utterance] {
    var plan = plan
    plan.isDryRun = outcome.isDryRun
    var style = Style()
    style.hasUnicode = false
    return RecoveryText.utterances(
      outcome, plan, resultStyle: style, errorStyle: style, isQuiet: false)
  }

  private static let plan = RecoveryPlan(journal: "/var/lib/switchover/it's.journal")

  @Test func commandLinesCanBePasted() {
    var plan = Self.plan
    #expect(plan.commandLine == #"switchover recover '/var/lib/switchover/it'\''s.journal'"#)
    plan = RecoveryPlan(source: "/run/a.qmp", target: "tcp:h:1", outOfBandMonitor: "/run/o")
    plan.fenced = [.target]
    plan.ownership = OwnershipWord.none
    plan.guestRan = false
    plan.targetNeverRan = true
    plan.isDryRun = true
    #expect(
      plan.commandLine
        == "switchover recover --source /run/a.qmp --target tcp:h:1 --source-oob /run/o "
        + "--fenced target --ownership none --guest-ran no --target-never-ran")
  }

  @Test func anOwnerIsAResult() {
    let said = told(outcome(.SWO_RECOVERY_RESUME_TARGET, owner: .SWO_OWNER_TARGET))
    #expect(
      said == [
        .remark("source: found"), .remark("done: did something"),
        .result("ok: what it means; owner: target, guest paused"),
      ])
  }

  @Test func aQuestionComesWithItsCommands() {
    let said = told(
      outcome(
        .SWO_RECOVERY_ASK, owner: .SWO_OWNER_NOBODY,
        words: ["--ownership source", "--ownership target"], nextStep: "find out"))
    #expect(
      said.suffix(4) == [
        .remark("no: switchover: what it means; owner: nobody, guest paused"),
        .remark("next: find out"),
        .remark("  \(Self.plan.commandLine) --ownership source"),
        .remark("  \(Self.plan.commandLine) --ownership target"),
      ])
  }

  @Test func aDryRunSaysWhatWouldBeDone() {
    let said = told(
      outcome(.SWO_RECOVERY_RESUME_SOURCE, owner: .SWO_OWNER_NOBODY, isDryRun: true))
    #expect(
      said.suffix(2) == [
        .result(
          "ok: what it means; owner: nobody, guest paused; would: resume the source"),
        .remark("next: \(Self.plan.commandLine)"),
      ])
  }

  @Test func theExitStatusTellsTheOwner() {
    let cases: [(swo_recovery_action, swo_owner, Bool, CLI.ExitStatus)] = [
      (.SWO_RECOVERY_NOTHING, .SWO_OWNER_SOURCE, false, .asAsked),
      (.SWO_RECOVERY_QUIT_SOURCE, .SWO_OWNER_TARGET, false, .asAsked),
      (.SWO_RECOVERY_RESUME_TARGET, .SWO_OWNER_NOBODY, true, .asAsked),
      (.SWO_RECOVERY_WAIT, .SWO_OWNER_NOBODY, true, .nobodyOwns),
      (.SWO_RECOVERY_ASK, .SWO_OWNER_SOURCE, false, .sourceOwns),
      (.SWO_RECOVERY_ASK, .SWO_OWNER_TARGET, false, .targetOwns),
      (.SWO_RECOVERY_ASK, .SWO_OWNER_NOBODY, false, .nobodyOwns),
      (.SWO_RECOVERY_ASK, .SWO_OWNER_UNKNOWN, false, .ownerUnknown),
      (.SWO_RECOVERY_ASK, .SWO_OWNER_NOBODY, true, .nobodyOwns),
    ]
    for (decision, owner, isDryRun, status) in cases {
      #expect(outcome(decision, owner: owner, isDryRun: isDryRun).exitStatus == status)
    }
  }

  @Test func theTableHasEveryCell() {
    let rows = Recovery.table
    #expect(rows.count == Int(swo_recovery_table_count()))
    for row in rows {
      #expect(row.count == 12)
      for (column, text) in row
      where column != .SWO_RECOVERY_COLUMN_TO_DO && column != .SWO_RECOVERY_COLUMN_WORDS {
        #expect(!text.isEmpty)
      }
    }
    #expect(swo_recovery_table_cell(-1, 1, nil, 0) == swo_code.SWO_E_INVALID.rawValue)
    #expect(swo_recovery_table_cell(0, 99, nil, 0) == swo_code.SWO_E_INVALID.rawValue)
    #expect(swo_recovery_table_cell(0, 1, nil, 5) == swo_code.SWO_E_INVALID.rawValue)
    var small = [CChar](repeating: 1, count: 5)
    #expect(swo_recovery_table_cell(0, 1, &small, small.count) == 8)
    #expect(small.map(UInt8.init(bitPattern:)) == Array("both".utf8) + [0])
  }
}
