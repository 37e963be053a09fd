import Testing

@testable import MigrationEngine

/// Migrations whose source's monitor is shared with others.
struct SharedMonitorScenarios {
  static let slow = Command.setParameters([
    ParameterSetting(name: "max-bandwidth", value: .integer(MonitorHold.slowBandwidth))
  ])
  static let full = Command.setParameters([
    ParameterSetting(name: "max-bandwidth", value: .integer(100_000_000))
  ])

  private func report(_ remaining: UInt64, _ status: MigrationStatus = .active) -> CommandReply {
    var report = MigrationReport()
    report.status = status
    report.ramRemainingBytes = remaining
    report.rateMegabitsPerSecond = 800
    return .answered(.migration(report))
  }

  private func transferring(
    _ handOver: HandOverMode = .none, change: (inout MigrationOptions) -> Void = { _ in }
  ) -> Scenario {
    Scenario.transferring(handOver) {
      $0.sourceMonitorIsShared = true
      $0.bandwidthBytesPerSecond = 100_000_000
      change(&$0)
    }
  }

  /// Lets time pass until the queue is looked at, and says who stands there.
  private func look(_ it: inout Scenario, _ count: Int?) {
    let asked = it.log.count { $0 == .countWaiting(.source) }
    for _ in 0..<20 where it.log.count(where: { $0 == .countWaiting(.source) }) == asked {
      it.pass(.milliseconds(50))
    }
    #expect(it.log.count { $0 == .countWaiting(.source) } > asked)
    it.feed(.clientsWait(.source, count))
  }

  /// Up to the moment at which the monitor is let go of.
  private func leave(_ it: inout Scenario) {
    look(&it, 1)
    it.reply(.source, .queryMigrate, report(1 << 30))
    it.reply(.source, Self.slow)
    it.reply(.source, .queryMigrate, report(1 << 30))
    comeAway(&it)
  }

  /// It is let go of; those who waited are served.
  private func comeAway(_ it: inout Scenario) {
    #expect(it.log.last == .letGo(of: .source))
    it.feed(.monitorLost(.source))
    it.pass(.milliseconds(10))
    #expect(it.log.last == .countWaiting(.source))
    it.feed(.clientsWait(.source, 1))
    #expect(it.log.last == .countWaiting(.source))
    it.pass(.milliseconds(10))
    it.feed(.clientsWait(.source, 0))
    #expect(it.log.last == .attach(.source))
  }

  private func comeBack(_ it: inout Scenario, _ status: MigrationStatus = .active) {
    it.feed(.monitorReady(.source, it.release))
    it.reply(.source, .queryMigrate, report(1 << 30, status))
    it.settle(except: [Self.full])
  }

  @Test func anExclusiveMonitorIsNeverLookedAt() {
    var it = Scenario.transferring()
    it.pass(.seconds(1))
    #expect(!it.log.contains(.countWaiting(.source)))
  }

  @Test func whoWaitsIsLetInAndThePaceIsPutBack() {
    var it = transferring()
    leave(&it)
    comeBack(&it)
    // The first was before `migrate`.
    #expect(it.sent(Self.full, to: .source) == 2)
    it.reply(.source, Self.full)
    it.completeOnSource()
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func whoWasRefusedByAFullQueueIsWaitedForToo() {
    var it = transferring()
    look(&it, 2)
    it.reply(.source, .queryMigrate, report(1 << 30))
    it.reply(.source, Self.slow)
    it.reply(.source, .queryMigrate, report(1 << 30))
    it.feed(.monitorLost(.source))
    for waiting in [0, 1, 0, 0, 0] {
      it.pass(.milliseconds(30))
      it.feed(.clientsWait(.source, waiting))
      #expect(it.log.last == .countWaiting(.source))
    }
    it.pass(.milliseconds(70))
    it.feed(.clientsWait(.source, 0))
    #expect(it.log.last == .attach(.source))
  }

  @Test func whoComesAfterSomebodyIsLetInAgain() {
    var it = transferring()
    leave(&it)
    comeBack(&it)
    it.reply(.source, Self.full)
    it.log = []
    leave(&it)
    comeBack(&it)
    #expect(it.engine.phase == .transferring)
  }

  @Test func aSmallGuestIsKeptFromMigrateOn() {
    var it = transferring()
    for _ in 0..<5 {
      look(&it, 2)
      it.reply(.source, .queryMigrate, report(128 << 20))
    }
    #expect(!it.log.contains(.letGo(of: .source)))
    #expect(it.sent(Self.slow, to: .source) == 0)
    it.completeOnSource()
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func itIsKeptInTheSwitchoverHoweverLongOthersWait() {
    var it = transferring(.beforeResume)
    it.completeOnSource()
    #expect(it.engine.phase == .handingOver)
    look(&it, 2)
    it.pass(.seconds(3))
    #expect(!it.log.contains(.letGo(of: .source)))
    #expect(
      it.log.contains(.warn("others wait for the source's monitor, which the migration needs now")))
  }

  @Test func theHostProgramThatResumesByItselfGetsTheSourcesMonitorToo() {
    var it = transferring(.external)
    it.completeOnSource()
    #expect(it.engine.phase == .handingOver)
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    #expect(it.log.contains(.letGo(of: .source)))
  }

  @Test func aPauseInOurAbsenceIsSeenAfterIt() {
    var it = transferring()
    leave(&it)
    it.sourceState = .paused
    comeBack(&it)
    it.reply(.source, Self.full)
    it.event(.source, .migration(.completed))
    it.event(.target, .migration(.completed))
    it.settle()
    #expect(it.sent(.cont, to: .target) == 0)
    #expect(it.engine.guest == .paused)
  }

  @Test func aCancelInOurAbsenceIsSentAfterIt() {
    var it = transferring()
    leave(&it)
    it.feed(.cancelRequested)
    #expect(it.engine.phase == .undoing)
    comeBack(&it)
    #expect(it.sent(.migrateCancel, to: .source) == 1)
    it.reply(.source, .migrateCancel)
    it.event(.source, .migration(.cancelled))
    it.settle()
    it.pass(.milliseconds(300))
    it.settle()
    #expect(it.engine.conclusion?.end == .cancelled)
    #expect(it.engine.conclusion?.owner == .source)
    let restored = it.log.last {
      if case .send(.setParameters, to: .source) = $0 { true } else { false }
    }
    #expect(
      restored
        == .send(
          .setParameters([
            ParameterSetting(name: "max-bandwidth", value: .integer(134_217_728)),
            ParameterSetting(name: "downtime-limit", value: .integer(300)),
          ]), to: .source))
  }

  @Test func whoeverKeepsItIsWaitedForWithAWarning() {
    var it = transferring()
    leave(&it)
    for _ in 0..<4 {
      it.pass(.seconds(30))
      it.feed(.monitorUnavailable(.source, .busy))
      #expect(it.log.last == .attach(.source))
    }
    #expect(
      it.log.contains(
        .warn("another client keeps the source's monitor; the migration waits for it to leave")))
    #expect(it.engine.phase == .transferring)
    #expect(it.engine.owner == .source)
    comeBack(&it)
    #expect(it.sent(Self.full, to: .source) == 2)
  }

  @Test func whoeverKeepsItForTooLongMakesTheMigrationFailAndTheGuestRunOn() {
    var it = transferring()
    leave(&it)
    it.pass(.seconds(600))
    #expect(it.engine.phase == .undoing)
    #expect(it.sent(.quit, to: .target) == 1)
    it.reply(.target, .quit)
    it.die(.target)
    comeBack(&it, .failed)
    it.pass(.milliseconds(300))
    it.settle()
    #expect(it.engine.conclusion?.failure?.code == .monitorBusy)
    #expect(it.engine.conclusion?.owner == .source)
    #expect(it.engine.conclusion?.guest == .running)
  }

  @Test func howeverManyComeWeStandInTheQueueInTheEnd() {
    var it = transferring()
    look(&it, 2)
    it.reply(.source, .queryMigrate, report(1 << 30))
    it.reply(.source, Self.slow)
    it.reply(.source, .queryMigrate, report(1 << 30))
    it.feed(.monitorLost(.source))
    for _ in 0..<49 {
      it.pass(.milliseconds(9))
      it.feed(.clientsWait(.source, 2))
      #expect(!it.log.contains(.attach(.source)))
    }
    it.pass(.milliseconds(20))
    #expect(it.log.last == .attach(.source))
  }

  @Test func aStrangerAtTheAddressIsNotWaitedFor() {
    var it = transferring()
    leave(&it)
    it.feed(.monitorUnavailable(.source, .stranger))
    #expect(it.engine.conclusion?.owner == .unknown)
  }

  @Test func aDeathInOurAbsenceIsOne() {
    var it = transferring()
    leave(&it)
    it.feed(.processExited(.source))
    it.die(.target)
    #expect(it.engine.conclusion?.failure?.code == .sourceGone)
    #expect(it.engine.conclusion?.guest == .off)
  }

  @Test func extraQuestionsDoNotRaiseTheLimit() {
    var it = transferring { $0.downtimeLimitMilliseconds = 300 }
    for _ in 0..<60 {
      look(&it, 1)
      it.reply(.source, .queryMigrate, report(64 << 20))
    }
    // A good three seconds: the ramp begins after six.
    let raised = it.log.contains { if case .log = $0 { true } else { false } }
    #expect(!raised)
  }

  @Test func mirroringGivesWayAtOnce() {
    var it = Scenario(disks: 1) { $0.sourceMonitorIsShared = true }
    it.feed(.startRequested)
    it.feed(.monitorReady(.source, it.release))
    it.feed(.monitorReady(.target, it.release))
    it.settle()
    #expect(it.engine.phase == .mirroring)
    look(&it, 1)
    comeAway(&it)
    // It became ready, and its owner paused the guest: both events are lost.
    it.jobs = [
      BlockJobReport(id: MirrorNames.job(0), isReady: true, length: 64, offset: 64, status: "ready")
    ]
    it.sourceState = .paused
    it.feed(.monitorReady(.source, it.release))
    it.settle()
    #expect(it.engine.phase == .transferring)
    #expect(it.engine.guest == .paused)
  }

  @Test func theJournalRemembersWhatMayBeLeftSlow() {
    let it = transferring()
    #expect(
      it.engine.intentFacts.source.parameters.contains(
        ParameterSetting(name: "max-bandwidth", value: .integer(134_217_728))))
  }
}
