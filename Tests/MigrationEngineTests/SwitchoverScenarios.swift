import MigrationEngine
import Testing

/// Whole migrations, told by facts.
struct SwitchoverScenarios {
  @Test func grantFollowsTheSourcesCompletedAtOnce() {
    var it = Scenario.transferring(.none)
    it.event(.source, .stop)
    #expect(it.sent(.cont, to: .target) == 0)
    it.sourceState = .finishMigrate
    it.settle()
    #expect(it.sent(.cont, to: .target) == 0)
    it.event(.source, .migration(.completed))
    #expect(it.sent(.cont, to: .target) == 1)
    it.reply(.target, .cont)
    it.event(.target, .migration(.completed))
    #expect(it.engine.owner == .unknown)
    it.event(.target, .resume)
    #expect(it.engine.owner == .target)
    it.targetState = .running
    it.settle()
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.reply(.source, .quit)
    it.feed(.monitorLost(.source))
    #expect(it.engine.conclusion?.end == .completed)
    #expect(it.engine.conclusion?.owner == .target)
    #expect(it.engine.conclusion?.guest == .running)
  }

  @Test(arguments: [HandOverMode.none, .beforeResume])
  func bothAreLeftAloneWhileTheGuestBegins(handOver: HandOverMode) {
    var it = Scenario.transferring(handOver)
    it.completeOnSource()
    it.feed(.handOverReported(.done))
    it.event(.target, .migration(.completed))
    it.event(.target, .resume)
    it.reply(.target, .cont)
    #expect(it.engine.owner == .target)
    it.pass(.milliseconds(15))
    #expect(it.open.isEmpty)
    #expect(it.sent(.quit, to: .source) == 0)
    it.pass(.milliseconds(5))
    #expect(it.sent(.quit, to: .source) == 1)
    #expect(it.open.contains { $0.side == .target })
  }

  @Test func writesThatAreOnTheirWayAreWaitedForBeforeMemoryTravels() {
    func job(_ offset: UInt64) -> BlockJobReport {
      BlockJobReport(
        id: MirrorNames.job(0), isReady: true, length: 64, offset: offset, status: "ready")
    }
    var it = Scenario(.none, disks: 1)
    it.feed(.startRequested)
    it.feed(.monitorReady(.source, it.release))
    it.feed(.monitorReady(.target, it.release))
    it.settle()
    it.jobs = [job(32)]
    it.pass(.seconds(1))
    it.settle()
    for _ in 0..<5 {
      #expect(it.engine.phase == .mirroring)
      it.pass(.milliseconds(50))
      // The reply takes its time: the next look is due when it comes.
      it.now = it.now + .milliseconds(20)
      it.settle()
    }
    it.jobs = [job(64)]
    for _ in 0..<3 where it.engine.phase == .mirroring {
      guard let next = it.engine.nextDeadline else { break }
      it.pass(next - it.now)
      it.settle()
    }
    #expect(it.engine.phase == .transferring)
  }

  @Test func aCompletedThatOvertakesTheRunStateWaitsForIt() {
    var it = Scenario.transferring(.none)
    it.event(.source, .stop)
    it.event(.source, .migration(.completed))
    #expect(it.sent(.cont, to: .target) == 0)
    it.sourceState = .postmigrate
    it.settle()
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func aGuestPausedOnTheWayIsNeverGranted() {
    var it = Scenario.transferring(.none)
    it.event(.source, .stop)
    it.sourceState = .paused
    it.settle()
    #expect(it.engine.phase == .transferring)
    it.sourceState = .postmigrate
    it.targetState = .paused
    it.event(.source, .migration(.completed))
    it.event(.target, .migration(.completed))
    it.settle()
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.reply(.source, .quit)
    it.feed(.monitorLost(.source))
    #expect(it.sent(.cont, to: .target) == 0)
    #expect(it.engine.conclusion?.owner == .target)
    #expect(it.engine.conclusion?.guest == .paused)
  }

  @Test func aGuestPausedBeforeMigrateIsSentIsNeverGranted() {
    var it = Scenario(.none)
    it.feed(.startRequested)
    it.feed(.monitorReady(.source, it.release))
    it.feed(.monitorReady(.target, it.release))
    // The source has said that it runs; the target is being disarmed.
    it.settle(except: [.stop])
    it.event(.source, .stop)
    it.sourceState = .guestPanicked
    it.settle()
    it.event(.source, .migration(.active))
    #expect(it.engine.phase == .transferring)
    it.sourceState = .postmigrate
    it.targetState = .paused
    it.event(.source, .migration(.completed))
    it.event(.target, .migration(.completed))
    for _ in 0..<5 {
      it.pass(.seconds(3))
      it.settle()
    }
    #expect(it.sent(.cont, to: .target) == 0)
    it.reply(.source, .quit)
    it.feed(.monitorLost(.source))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    #expect(it.engine.conclusion?.end == .completed)
    #expect(it.engine.conclusion?.guest == .paused)
  }

  @Test func anAlarmThatNobodyTookDoesNotKeepTheDriverAwake() {
    var it = Scenario.transferring(.none)
    it.event(.source, .stop)
    it.pass(.seconds(30))
    if let next = it.engine.nextDeadline { #expect(next > it.now) }
  }

  @Test func pausedAndResumedByItsOwnerIsGranted() {
    var it = Scenario.transferring(.none)
    it.event(.source, .stop)
    it.sourceState = .paused
    it.settle()
    it.event(.source, .resume)
    it.sourceState = .running
    it.completeOnSource()
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func beforeResumeGrantsOnlyAfterTheHandOver() {
    var it = Scenario.transferring(.beforeResume)
    it.completeOnSource()
    #expect(it.log.contains(.handOverWanted))
    #expect(it.sent(.cont, to: .target) == 0)
    #expect(it.engine.owner == .nobody)
    it.feed(.handOverReported(.done))
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func aFailedHandOverGivesTheGuestBackToTheSource() {
    var it = Scenario.transferring(.beforeResume)
    it.completeOnSource()
    it.feed(.handOverReported(.failed))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    #expect(it.sent(.quit, to: .target) == 1)
    #expect(it.sent(.cont, to: .source) == 0)
    it.reply(.target, .quit)
    it.die(.target)
    it.pass(.milliseconds(300))
    it.settle()
    #expect(it.sent(.cont, to: .source) == 1)
    it.reply(.source, .cont)
    it.sourceState = .running
    it.pass(.milliseconds(300))
    it.settle()
    #expect(it.engine.conclusion?.end == .failed)
    #expect(it.engine.conclusion?.owner == .source)
    #expect(it.engine.conclusion?.failure?.code == .handOver)
    #expect(it.sent(.cont, to: .target) == 0)
  }

  @Test func anUnknownHandOverResumesNobody() {
    var it = Scenario.transferring(.beforeResume)
    it.completeOnSource()
    it.feed(.handOverReported(.unknown))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.settle()
    #expect(it.sent(.cont, to: .target) == 0)
    #expect(it.sent(.cont, to: .source) == 0)
    #expect(it.engine.conclusion?.owner == .nobody)
  }

  @Test func externalLetsGoOfBothMonitorsAndSeesTheGuestRun() {
    var it = Scenario.transferring(.external)
    it.completeOnSource()
    #expect(!it.log.contains(.handOverWanted))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    #expect(it.log.contains(.handOverWanted))
    #expect(it.log.contains(.letGo(of: .target)))
    #expect(it.log.contains(.letGo(of: .source)))
    #expect(it.sent(.cont, to: .target) == 0)
    it.feed(.monitorLost(.target))
    it.feed(.monitorLost(.source))
    it.pass(.milliseconds(600))
    #expect(it.log.contains(.attach(.target)))
    it.targetState = .running
    it.feed(.monitorReady(.target, it.release))
    it.settle()
    it.reply(.target, .queryMigrate, .answered(.unreadable))
    it.settle()
    #expect(it.log.contains(.attach(.source)))
    it.feed(.monitorReady(.source, it.release))
    it.settle()
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.settle()
    #expect(it.sent(.quit, to: .source) == 0)
    #expect(it.engine.conclusion?.end == .completed)
    #expect(it.engine.conclusion?.owner == .target)
  }

  @Test func externalEndsTheMirrorsBeforeItLetsGo() {
    var it = Scenario.transferring(.external, disks: 1)
    let job = MirrorNames.job(0)
    it.completeOnSource()
    it.reply(.target, .nbdServerStop)
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.reply(.source, .yank(nodes: [MirrorNames.node(0)]))
    it.reply(.source, .blockJobCancel(job: job, force: true))
    #expect(!it.log.contains(.handOverWanted))
    it.jobs = []
    it.event(.source, .blockJobCancelled(job: job))
    it.event(.source, .jobStatusChanged(job: job, status: "null"))
    it.reply(.source, .yank(nodes: [MirrorNames.node(0)]))
    it.reply(.source, .blockdevDel(node: MirrorNames.node(0)))
    it.settle()
    #expect(it.log.contains(.letGo(of: .source)))
    #expect(it.log.contains(.handOverWanted))
  }

  @Test func theHostProgramChangesTheDowntimeLimitWhileMemoryTravels() {
    func limit(_ milliseconds: Int64) -> Command {
      .setParameters([ParameterSetting(name: "downtime-limit", value: .integer(milliseconds))])
    }
    var it = Scenario.transferring(.external)
    it.feed(.downtimeLimitRequested(400))
    #expect(it.sent(limit(400), to: .source) == 1)
    it.settle()
    it.feed(.monitorLost(.source))
    it.feed(.downtimeLimitRequested(600))
    #expect(it.sent(limit(600), to: .source) == 0)
    it.feed(.monitorReady(.source, it.release))
    #expect(it.sent(limit(600), to: .source) == 1)
    it.settle()
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.completeOnSource()
    it.feed(.downtimeLimitRequested(800))
    #expect(it.sent(limit(800), to: .source) == 0)
  }

  @Test func failedOnTheSourceLeavesTheGuestThere() {
    var it = Scenario.transferring(.none)
    it.event(.source, .migration(.failed))
    var report = MigrationReport()
    report.status = .failed
    report.errorDescription = "Connection reset"
    it.reply(.source, .queryMigrate, .answered(.migration(report)))
    it.settle()
    #expect(it.engine.conclusion?.end == .failed)
    #expect(it.engine.conclusion?.owner == .source)
    #expect(it.engine.conclusion?.guest == .running)
    #expect(it.engine.conclusion?.failure?.text.contains("Connection reset") == true)
  }

  @Test func targetThatDiesAfterCompletedWithoutGrantGivesTheGuestBack() {
    var it = Scenario.transferring(.beforeResume)
    it.completeOnSource()
    it.die(.target)
    #expect(it.sent(.cont, to: .source) == 0)
    it.feed(.handOverReported(.failed))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.settle()
    #expect(it.sent(.cont, to: .source) == 1)
  }

  /// I1: QEMU closed the monitor, or we gave it up, and what it said until it ended was not heard.
  @Test func targetThatOutlivedItsMonitorMayHaveRun() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.lose(.target)
    it.feed(.processExited(.target))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.settle()
    #expect(it.sent(.cont, to: .source) == 0)
    #expect(it.engine.conclusion?.owner == .nobody)
    #expect(it.engine.conclusion?.guest == .unknown)
  }

  @Test func targetThatDiesAfterTheGrantNeedsItsProcessToBeGone() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.feed(.heardToTheEnd(.target))
    it.feed(.monitorLost(.target))
    it.feed(.replied(.target, .cont, .lost, roundTrip: .zero))
    it.open.removeAll { $0.command == .cont }
    it.pass(.seconds(3))
    #expect(it.sent(.cont, to: .source) == 0)
    it.feed(.processExited(.target))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.settle()
    #expect(it.sent(.cont, to: .source) == 1)
    #expect(it.sent(.announceSelf, to: .source) == 1)
  }

  @Test func aGrantWhoseReplyIsLostForGoodIsUnknown() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.feed(.monitorLost(.target))
    it.feed(.replied(.target, .cont, .lost, roundTrip: .zero))
    it.open.removeAll { $0.command == .cont }
    it.feed(.monitorUnavailable(.target, .unreachable(text: "connection refused")))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.settle()
    #expect(it.engine.conclusion?.end == .unknown)
    #expect(it.engine.conclusion?.owner == .unknown)
    #expect(it.sent(.cont, to: .source) == 0)
  }

  @Test func aLostGrantIsSettledByTheReconnect() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.feed(.monitorLost(.target))
    it.feed(.replied(.target, .cont, .lost, roundTrip: .zero))
    it.open.removeAll { $0.command == .cont }
    it.targetState = .running
    it.feed(.monitorReady(.target, it.release))
    it.settle()
    #expect(it.engine.owner == .target)
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func aRefusedGrantEndsWithNobodyAndSaysWhy() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.reply(
      .target, .cont,
      .refused(Refusal(errorClass: "GenericError", text: "Failed to get \"write\" lock")))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.settle()
    #expect(it.engine.conclusion?.owner == .nobody)
    #expect(it.engine.conclusion?.failure?.command == "cont")
    #expect(it.engine.conclusion?.failure?.text.contains("image still open") == true)
    #expect(it.sent(.cont, to: .source) == 0)
  }

  @Test func cancelIsTooLateAfterStop() {
    var it = Scenario.transferring(.none)
    #expect(it.engine.canCancel)
    it.event(.source, .stop)
    #expect(!it.engine.canCancel)
    it.feed(.cancelRequested)
    #expect(it.sent(.migrateCancel, to: .source) == 0)
  }

  @Test func cancelOvertakenByCompletedGoesOn() {
    var it = Scenario.transferring(.none)
    it.feed(.cancelRequested)
    #expect(it.sent(.migrateCancel, to: .source) == 1)
    it.event(.source, .stop)
    it.sourceState = .finishMigrate
    it.settle()
    it.event(.source, .migration(.completed))
    it.reply(.source, .migrateCancel)
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func cancelEndsWithTheGuestOnTheSource() {
    var it = Scenario.transferring(.none)
    it.feed(.cancelRequested)
    it.reply(.source, .migrateCancel)
    it.event(.source, .migration(.cancelling))
    it.event(.source, .migration(.cancelled))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.settle()
    #expect(it.engine.conclusion?.end == .cancelled)
    #expect(it.engine.conclusion?.owner == .source)
    let restored = it.log.contains { effect in
      if case .send(.setCapabilities(let list), .source) = effect {
        return list.contains(CapabilitySetting(name: "events", on: false))
      }
      return false
    }
    #expect(restored)
  }

  @Test func guestThatPowersOffIsNotGrantedAndTheTargetIsEnded() {
    var it = Scenario.transferring(.none)
    it.event(.source, .shutdown(byGuest: true))
    it.die(.source)
    #expect(it.sent(.quit, to: .target) == 1)
    it.die(.target)
    it.settle()
    #expect(it.engine.conclusion?.guest == .off)
    #expect(it.engine.conclusion?.failure?.code == .guestOff)
    #expect(it.sent(.cont, to: .target) == 0)
  }

  /// QEMU 10.0 was seen to hang on its way out.
  @Test(arguments: [true, false])
  func sourceThatSaysNothingAnyMoreIsNotWaitedForForEver(isOff: Bool) {
    var it = Scenario.transferring(.none)
    if isOff { it.event(.source, .shutdown(byGuest: true)) } else { it.feed(.cancelRequested) }
    var seconds = 0
    while it.engine.phase != .ended, seconds < 200 {
      it.pass(.seconds(1))
      seconds += 1
      if it.sent(.quit, to: .target) == 1, it.open.contains(where: { $0.command == .quit }) {
        it.reply(.target, .quit)
        it.die(.target)
      }
    }
    #expect(seconds < (isOff ? 30 : 90))
    #expect(it.log.contains(.letGo(of: .source)))
    #expect(it.engine.conclusion?.owner == (isOff ? .source : .unknown))
    #expect(it.engine.conclusion?.guest == (isOff ? .off : .unknown))
    #expect(it.engine.conclusion?.nextStep.hasPrefix(isOff ? "end both QEMUs" : "reach") == true)
    #expect((it.sent(.quit, to: .target) > 0) == isOff)
  }

  @Test func unknownStatusEventsAndFieldsEndNothing() {
    var it = Scenario.transferring(.none)
    it.event(.source, .migration(.unrecognised("failing")))
    it.event(.source, .other("SOMETHING_NEW"))
    it.event(.target, .migration(.unrecognised("postcopy-recover-setup")))
    #expect(it.engine.phase == .transferring)
    #expect(it.engine.conclusion == nil)
  }

  @Test func lostEventsAreMadeUpForByReconcile() {
    var it = Scenario.transferring(.none)
    it.event(.source, .stop)
    it.sourceState = .finishMigrate
    it.settle()
    // `completed` never arrives.
    it.pass(.seconds(3))
    var report = MigrationReport()
    report.status = .completed
    it.sourceState = .postmigrate
    it.settle()
    it.reply(.source, .queryMigrate, .answered(.migration(report)))
    #expect(it.sent(.cont, to: .target) == 1)
  }
}

/// Local disks.
struct StorageScenarios {
  @Test func fastOrderSendsTheStopOfTheServerAheadOfTheGrant() throws {
    var it = Scenario.transferring(.none, disks: 2)
    it.completeOnSource()
    let stop = try #require(it.position(.send(.nbdServerStop, to: .target)))
    let cont = try #require(it.position(.send(.cont, to: .target)))
    #expect(cont == stop + 1)
  }

  @Test func aMirrorOutOfSyncTakesTheOtherOrder() {
    var it = Scenario.transferring(.none, disks: 1)
    it.jobs[0].offset = 32
    it.event(.source, .stop)
    it.sourceState = .finishMigrate
    it.settle()
    it.event(.source, .migration(.preSwitchover))
    it.settle()
    let cancel = Command.blockJobCancel(job: MirrorNames.job(0), force: false)
    #expect(it.sent(cancel, to: .source) == 1)
    #expect(it.sent(.migrateContinue, to: .source) == 0)
    it.reply(.source, cancel)
    it.event(.source, .blockJobCompleted(job: MirrorNames.job(0), error: nil))
    #expect(it.sent(.migrateContinue, to: .source) == 1)
    #expect(it.sent(.nbdServerStop, to: .target) == 1)
    it.event(.source, .migration(.completed))
    #expect(it.sent(.cont, to: .target) == 0)
    it.reply(.target, .nbdServerStop)
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func aFailedMirrorCallsTheMigrationOff() {
    var it = Scenario.transferring(.none, disks: 2)
    it.event(.source, .blockJobCompleted(job: MirrorNames.job(1), error: "Input/output error"))
    #expect(it.engine.phase == .undoing)
    // The other mirror ends in sync first, while its server is there and answers.
    it.jobs.removeLast()
    it.pass(.milliseconds(60))
    it.settle()
    let cancel = Command.blockJobCancel(job: MirrorNames.job(0), force: false)
    #expect(it.sent(cancel, to: .source) == 1)
    #expect(it.sent(.migrateCancel, to: .source) == 0)
    it.reply(.source, cancel)
    it.event(.source, .blockJobCompleted(job: MirrorNames.job(0), error: nil))
    for index in 0...1 {
      it.event(.source, .jobStatusChanged(job: MirrorNames.job(index), status: "null"))
      it.reply(.source, .blockdevDel(node: MirrorNames.node(index)))
    }
    #expect(it.sent(.migrateCancel, to: .source) == 1)
  }

  @Test func aServerThatDoesNotStopIsNotGrantedOver() {
    var it = Scenario.transferring(.beforeResume, disks: 1)
    it.completeOnSource()
    it.reply(
      .target, .nbdServerStop, .refused(Refusal(errorClass: "GenericError", text: "it is stuck")))
    it.feed(.handOverReported(.done))
    #expect(it.sent(.cont, to: .target) == 0)
    #expect(it.engine.phase == .undoing)
  }

  @Test func cancelInPreSwitchoverIsTakenAndAfterContinueIsNot() {
    var it = Scenario.transferring(.none, disks: 1)
    it.event(.source, .stop)
    it.sourceState = .finishMigrate
    it.settle()
    it.event(.source, .migration(.preSwitchover))
    #expect(it.engine.canCancel)
    it.settle()
    #expect(it.sent(.migrateContinue, to: .source) == 1)
    #expect(!it.engine.canCancel)
  }

  @Test func aWriteThatDoesNotArriveCallsTheMigrationOffWhileTheGuestRuns() {
    var it = Scenario.transferring(.none, disks: 2)
    it.jobs[1].offset = 32
    for _ in 0..<12 {
      it.pass(.milliseconds(250))
      it.settle()
    }
    #expect(it.engine.phase == .undoing)
    // Told to end in sync, QEMU would wait for the connection with the guest standing.
    for index in 0...1 {
      #expect(it.sent(.yank(nodes: [MirrorNames.node(index)]), to: .source) == 1)
      #expect(it.sent(.blockJobCancel(job: MirrorNames.job(index), force: false), to: .source) == 0)
    }
  }

  @Test func writesThatArriveAreNoStall() {
    var it = Scenario.transferring(.none, disks: 1)
    for round in 0..<40 {
      it.jobs[0].length = 64 + UInt64(round)
      it.jobs[0].offset = 63 + UInt64(round)
      it.pass(.milliseconds(250))
      it.settle()
    }
    #expect(it.engine.phase == .transferring)
  }

  @Test func mirrorsOutOfSyncAtTheirDeadlineThrottleTheGuest() {
    var it = Scenario(.none, disks: 1) {
      $0.storage.syncDeadline = .seconds(5)
      $0.storage.policy = .throttle
    }
    it.release = QEMURelease(10, 0)
    it.feed(.startRequested)
    for side in Side.allCases { it.feed(.monitorReady(side, it.release)) }
    it.settle()
    #expect(it.engine.phase == .mirroring)
    let change = Command.blockJobChange(job: MirrorNames.job(0))
    #expect(it.sent(change, to: .source) == 0)
    it.pass(.seconds(6))
    it.settle()
    #expect(it.sent(change, to: .source) == 1)
    #expect(it.engine.phase == .mirroring)
  }

  @Test(arguments: [64 << 10, 64 << 20] as [UInt64])
  func aGuestThatKeepsAheadOfTheLastOfACopyIsMadeToWait(bytesLeft: UInt64) {
    var it = Scenario(.none, disks: 1)
    it.release = QEMURelease(10, 0)
    it.feed(.startRequested)
    for side in Side.allCases { it.feed(.monitorReady(side, it.release)) }
    it.settle()
    let change = Command.blockJobChange(job: MirrorNames.job(0))
    for round in 1...4 {
      // Much is copied, and as much is left as before.
      let length = UInt64(round) << 30
      it.jobs = [
        BlockJobReport(
          id: MirrorNames.job(0), isReady: false, length: length, offset: length - bytesLeft,
          status: "running")
      ]
      it.pass(.seconds(1))
      it.settle()
      if round == 1 { #expect(it.sent(change, to: .source) == 0) }
    }
    #expect(it.sent(change, to: .source) == (bytesLeft < 16 << 20 ? 1 : 0))
    #expect(it.engine.phase == .mirroring)
  }

  @Test func anExportOfAnotherKindOfADiskThatMovesIsRefused() {
    var it = Scenario(.none, disks: 1)
    it.exports = [BlockExportReport(id: "x", type: "fuse", node: "d0")]
    it.feed(.startRequested)
    for side in Side.allCases { it.feed(.monitorReady(side, it.release)) }
    it.settle()
    #expect(it.engine.conclusion?.failure?.code == .targetUnfit)
  }

  @Test func anExportOfAnotherKindForbidsTheOrderInOneWrite() {
    var it = Scenario.transferring(
      .none, disks: 1, exports: [BlockExportReport(id: "x", type: "fuse", node: "other")])
    it.completeOnSource()
    #expect(it.sent(.nbdServerStop, to: .target) == 1)
    #expect(it.sent(.cont, to: .target) == 0)
    it.reply(.target, .nbdServerStop)
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func aCancelInPreSwitchoverEndsTheMirrorsWhileTheGuestStands() throws {
    var it = Scenario.transferring(.none, disks: 1)
    it.event(.source, .stop)
    it.sourceState = .finishMigrate
    it.settle()
    it.event(.source, .migration(.preSwitchover))
    it.feed(.cancelRequested)
    let yank = try #require(it.position(.send(.yank(nodes: [MirrorNames.node(0)]), to: .source)))
    let force = Command.blockJobCancel(job: MirrorNames.job(0), force: true)
    #expect(try #require(it.position(.send(force, to: .source))) > yank)
    #expect(it.sent(.migrateCancel, to: .source) == 0)
  }

  @Test func aStallAtStopIsYankedOutOfBand() {
    var it = Scenario.transferring(.none, disks: 1)
    it.feed(.outOfBandChanged(.source, isReady: true))
    it.event(.source, .stop)
    it.pass(.milliseconds(2100))
    #expect(it.log.contains(.sendOutOfBand(.yank(nodes: [MirrorNames.node(0)]), to: .source)))
  }
}
