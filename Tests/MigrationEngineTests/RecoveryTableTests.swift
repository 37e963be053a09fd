import MigrationEngine
import Testing

/// The recovery table, every combination and every row.
struct RecoveryTableTests {
  typealias Situation = RecoverySituation

  @Test func everySituationHasARow() {
    #expect(Situation.all.count == 9 * 9 * 4 * 3 * 2)
    #expect(Set(Situation.all).count == Situation.all.count)
    for situation in Situation.all {
      #expect(RecoveryTable.rule(for: situation) != nil, "\(situation)")
    }
  }

  @Test func everyRowIsReached() {
    let reached = Set(Situation.all.compactMap { RecoveryTable.rule(for: $0)?.name })
    for rule in RecoveryTable.rules { #expect(reached.contains(rule.name), "\(rule.name)") }
  }

  @Test func namesAreUniqueAndTextsAreThere() {
    #expect(Set(RecoveryTable.rules.map(\.name)).count == RecoveryTable.rules.count)
    for rule in RecoveryTable.rules {
      #expect(!rule.meaning.isEmpty && !rule.meaning.hasSuffix("."), "\(rule.name)")
      #expect(!rule.toDo.hasSuffix("."), "\(rule.name)")
      switch rule.action {
      case .ask, .wait: #expect(!rule.toDo.isEmpty, "\(rule.name) asks a person for nothing")
      case .nothing, .quitSource, .cancelMigration, .resumeTarget, .endTargetThenResumeSource,
        .resumeSource:
        #expect(rule.words.isEmpty, "\(rule.name) needs no word")
      }
    }
  }

  // MARK: - Safety, over all combinations

  private func check(
    _ action: RecoveryAction, _ comment: Comment, _ isAllowed: (Situation) -> Bool
  ) {
    var count = 0
    for situation in Situation.all
    where RecoveryTable.rule(for: situation)?.action == action {
      count += 1
      #expect(isAllowed(situation), "\(action) in \(situation): \(comment)")
    }
    #expect(count > 0, "\(action) is never decided")
  }

  @Test func theTargetIsResumedOnlyWhereTheSourceCannotRun() {
    check(.resumeTarget, "I1, I3, I8") {
      [.completed, .dead].contains($0.source) && $0.target == .loaded && $0.guestRun == .ran
        && [.none, .target].contains($0.cluster)
    }
  }

  @Test func theSourceIsResumedOnlyWhereTheTargetNeverRanAndCannot() {
    check(.resumeSource, "I1, I8") {
      $0.source == .completed && $0.target == .dead && $0.targetPast == .neverRan
        && $0.guestRun == .ran && [.none, .source].contains($0.cluster)
    }
  }

  @Test func theTargetIsEndedOnlyWhereTheSourceHasTheGuestWhole() {
    check(.endTargetThenResumeSource, "a running guest is never ended") {
      $0.source == .completed && [.loaded, .failed].contains($0.target)
        && $0.targetPast == .neverRan && $0.guestRun == .ran
        && ($0.cluster == .source || ($0.target == .failed && $0.cluster == .none))
    }
  }

  @Test func theSourceIsEndedOnlyWhereTheGuestRunsElsewhere() {
    check(.quitSource, "I1") { $0.source == .completed && $0.target == .runs }
  }

  @Test func aCancelMeetsNoTargetThatMightStart() {
    check(.cancelMigration, "I4") {
      switch $0.source {
      case .transferring:
        $0.target != .runs && ($0.target != .unreachable || $0.targetPast == .neverRan)
      case .preSwitchover: $0.target != .runs
      default: false
      }
    }
  }

  @Test func nothingIsDoneWhereAGuestRunsTwice() {
    for situation in Situation.all where situation.source == .runs && situation.target == .runs {
      let rule = RecoveryTable.rule(for: situation)
      #expect(rule?.action == .ask && rule?.owner == .unknown)
    }
  }

  @Test func anUnreachableOrUndecidedSideIsNeverOverruled() {
    for situation in Situation.all {
      let action = RecoveryTable.rule(for: situation)?.action
      if situation.source == .unreachable || situation.source == .switchingOver {
        #expect(action == .ask || action == .wait || action == .nothing, "\(situation)")
      }
      if situation.target == .unreachable, situation.source == .completed {
        #expect(action == .ask, "\(situation)")
      }
      if situation.target == .waiting, [.completed, .dead, .unreachable].contains(situation.source)
      {
        #expect(action == .wait, "\(situation)")
      }
    }
  }

  /// I8: with a guest that stood, or may have, nothing is resumed.
  @Test func nothingIsResumedUnlessTheGuestRan() {
    for situation in Situation.all where situation.guestRun != .ran {
      switch RecoveryTable.rule(for: situation)?.action {
      case .resumeSource, .resumeTarget, .endTargetThenResumeSource: Issue.record("\(situation)")
      default: break
      }
    }
  }

  /// I2: an owner is named only where the facts allow it.
  @Test func ownersFollowFromWhatIsSeen() {
    for situation in Situation.all {
      guard let rule = RecoveryTable.rule(for: situation) else { continue }
      switch rule.owner {
      case .source:
        #expect(
          ![.completed, .unreachable].contains(situation.source)
            || (situation.source == .completed && situation.targetPast == .neverRan
              && [.failed, .dead].contains(situation.target)),
          "\(situation)")
        #expect(situation.target != .runs, "\(situation)")
      case .target:
        #expect(![.runs, .stands, .transferring, .preSwitchover].contains(situation.source))
        #expect(
          ![.waiting, .incomplete, .unreachable].contains(situation.target), "\(situation)")
      case .nobody:
        #expect([.completed, .dead].contains(situation.source), "\(situation)")
        #expect(![.runs, .unreachable].contains(situation.target), "\(situation)")
      case .unknown:
        #expect(rule.action == .ask || rule.action == .wait, "\(situation)")
      }
      if rule.guest == .running {
        #expect(
          [.runs, .transferring].contains(situation.source) || situation.target == .runs,
          "\(situation)")
      }
      if situation.source == .runs || situation.target == .runs,
        situation.source != .switchingOver
      {
        #expect(rule.guest == .running, "\(situation)")
      }
    }
  }

  // MARK: - Row by row

  struct Row: Sendable {
    var source: Situation.Source
    var target: Situation.Target
    var cluster: Situation.Cluster
    var ran: Situation.GuestRun
    var past: Situation.TargetPast
    var rule: String

    init(
      _ source: Situation.Source, _ target: Situation.Target, _ cluster: Situation.Cluster,
      _ ran: Situation.GuestRun, _ past: Situation.TargetPast, _ rule: String
    ) {
      self.source = source
      self.target = target
      self.cluster = cluster
      self.ran = ran
      self.past = past
      self.rule = rule
    }
  }

  static let rows: [Row] = [
    Row(.runs, .runs, .none, .ran, .mayHaveRun, "both-run"),
    Row(.runs, .dead, .target, .stood, .mayHaveRun, "source-runs-target-gone"),
    Row(.runs, .loaded, .target, .ran, .mayHaveRun, "source-runs"),
    Row(.stands, .runs, .none, .ran, .mayHaveRun, "source-stands-target-runs"),
    Row(.stands, .off, .none, .ran, .mayHaveRun, "source-stands-target-gone"),
    Row(.stands, .loaded, .none, .ran, .neverRan, "source-stands"),
    Row(.off, .runs, .none, .ran, .mayHaveRun, "source-off-target-runs"),
    Row(.off, .unreachable, .none, .ran, .mayHaveRun, "source-off-target-silent"),
    Row(.off, .loaded, .none, .ran, .mayHaveRun, "source-off"),
    Row(.switchingOver, .dead, .none, .ran, .neverRan, "undecided"),
    Row(.transferring, .runs, .none, .ran, .mayHaveRun, "transferring-target-runs"),
    Row(.preSwitchover, .runs, .none, .ran, .mayHaveRun, "transferring-target-runs"),
    Row(.preSwitchover, .unreachable, .none, .ran, .mayHaveRun, "pre-switchover"),
    Row(.transferring, .unreachable, .none, .ran, .mayHaveRun, "transferring-target-silent"),
    Row(.transferring, .unreachable, .none, .ran, .neverRan, "transferring"),
    Row(.transferring, .waiting, .unknown, .unknown, .neverRan, "transferring"),
    Row(.completed, .runs, .none, .ran, .mayHaveRun, "completed-target-runs"),
    Row(.completed, .runs, .source, .ran, .mayHaveRun, "completed-target-runs-unowned"),
    Row(.completed, .off, .none, .ran, .mayHaveRun, "completed-target-off"),
    Row(.completed, .stands, .source, .ran, .neverRan, "completed-target-stands"),
    Row(.completed, .waiting, .none, .ran, .neverRan, "completed-loading"),
    Row(.completed, .incomplete, .none, .ran, .neverRan, "completed-writes-left"),
    Row(.completed, .loaded, .none, .ran, .mayHaveRun, "completed-loaded"),
    Row(.completed, .loaded, .target, .ran, .mayHaveRun, "completed-loaded"),
    Row(.completed, .loaded, .target, .stood, .neverRan, "completed-loaded-stood"),
    Row(.completed, .loaded, .source, .ran, .neverRan, "completed-loaded-back"),
    Row(.completed, .loaded, .source, .ran, .mayHaveRun, "completed-loaded-doubtful"),
    Row(.completed, .loaded, .source, .stood, .neverRan, "completed-loaded-stood-back"),
    Row(.completed, .loaded, .unknown, .ran, .neverRan, "completed-loaded-unowned"),
    Row(.completed, .loaded, .none, .unknown, .neverRan, "completed-loaded-unasked"),
    Row(.completed, .unreachable, .none, .ran, .mayHaveRun, "completed-target-silent"),
    Row(.completed, .failed, .source, .ran, .neverRan, "completed-target-failed"),
    Row(.completed, .dead, .none, .ran, .neverRan, "completed-target-dead"),
    Row(.completed, .dead, .source, .stood, .neverRan, "completed-target-lost-stood"),
    Row(.completed, .failed, .none, .unknown, .neverRan, "completed-target-lost-unasked"),
    Row(.completed, .dead, .target, .ran, .neverRan, "completed-target-lost-unowned"),
    Row(.completed, .dead, .unknown, .stood, .neverRan, "completed-target-lost-unowned"),
    Row(.completed, .dead, .none, .ran, .mayHaveRun, "completed-target-lost-doubtful"),
    Row(.dead, .runs, .target, .ran, .mayHaveRun, "dead-target-runs"),
    Row(.dead, .runs, .source, .ran, .mayHaveRun, "dead-target-runs-unowned"),
    Row(.dead, .off, .none, .ran, .mayHaveRun, "dead-target-off"),
    Row(.dead, .stands, .none, .ran, .mayHaveRun, "dead-target-stands"),
    Row(.dead, .waiting, .none, .ran, .neverRan, "dead-loading"),
    Row(.dead, .loaded, .target, .ran, .mayHaveRun, "dead-loaded"),
    Row(.dead, .loaded, .none, .stood, .mayHaveRun, "dead-loaded-stood"),
    Row(.dead, .loaded, .source, .ran, .neverRan, "dead-loaded-elsewhere"),
    Row(.dead, .loaded, .unknown, .ran, .neverRan, "dead-loaded-unowned"),
    Row(.dead, .loaded, .none, .unknown, .neverRan, "dead-loaded-unasked"),
    Row(.dead, .incomplete, .none, .ran, .neverRan, "dead-writes-left"),
    Row(.dead, .unreachable, .none, .ran, .mayHaveRun, "dead-target-silent"),
    Row(.dead, .dead, .target, .ran, .mayHaveRun, "dead-both-at-target"),
    Row(.dead, .failed, .none, .ran, .neverRan, "dead-both-at-source"),
    Row(.dead, .dead, .unknown, .ran, .neverRan, "dead-both"),
    Row(.unreachable, .runs, .none, .ran, .mayHaveRun, "silent-target-runs"),
    Row(.unreachable, .waiting, .none, .ran, .neverRan, "silent-loading"),
    Row(.unreachable, .unreachable, .none, .ran, .mayHaveRun, "silent-both"),
    Row(.unreachable, .loaded, .target, .ran, .mayHaveRun, "silent"),
    Row(.unreachable, .dead, .source, .ran, .neverRan, "silent"),
  ]

  @Test(arguments: rows)
  func decides(_ row: Row) {
    let situation = Situation(
      source: row.source, target: row.target, cluster: row.cluster, guestRun: row.ran,
      targetPast: row.past)
    #expect(RecoveryTable.rule(for: situation)?.name == row.rule)
  }

  @Test func everyRowHasItsOwnExample() {
    #expect(Set(Self.rows.map(\.rule)) == Set(RecoveryTable.rules.map(\.name)))
  }
}
