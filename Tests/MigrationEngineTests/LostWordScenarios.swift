import MigrationEngine
import Testing

/// Words that are lost: a reply, an event, or the whole connection at the worst moment.
struct LostWordScenarios {
  /// Up to `migrate-continue`.
  private func continued() -> Scenario {
    var it = Scenario.transferring(.none, disks: 1)
    it.event(.source, .stop)
    it.sourceState = .finishMigrate
    it.settle()
    it.event(.source, .migration(.preSwitchover))
    it.settle()
    #expect(it.sent(.migrateContinue, to: .source) == 1)
    return it
  }

  @Test func aLostContinueIsSaidAgainWhereTheSourceStillWaitsForIt() {
    var it = continued()
    it.lose(.source)
    it.comeBack(.source, .finishMigrate, .preSwitchover)
    #expect(it.sent(.migrateContinue, to: .source) == 2)
    it.reply(.source, .migrateContinue)
    it.sourceState = .postmigrate
    it.event(.source, .migration(.completed))
    it.settle()
    #expect(it.sent(.migrateCancel, to: .source) == 0)
  }

  @Test func aLostContinueThatWasCarriedOutIsNotSaidAgain() {
    var it = continued()
    it.lose(.source)
    it.comeBack(.source, .finishMigrate, .device)
    #expect(it.sent(.migrateContinue, to: .source) == 1)
  }

  /// I8: nobody heard whether the guest was paused meanwhile, whichever answer comes first.
  @Test func aPauseThatNobodyCouldHearIsAskedForBeforeTheGrant() {
    var it = Scenario.transferring(.none)
    it.lose(.source)
    it.sourceState = .postmigrate
    it.feed(.monitorReady(.source, it.release))
    it.report(.source, .completed)
    #expect(it.sent(.cont, to: .target) == 0)
    it.settle()
    #expect(it.sent(.cont, to: .target) == 0)
    it.event(.target, .migration(.completed))
    it.settle()
    it.pass(.seconds(1))
    it.settle(except: Command.ofRecovery)
    #expect(it.sent(.cont, to: .target) == 0)
    #expect(it.sent(.cont, to: .source) == 0)
  }

  @Test func aPauseThatNobodyExplainsIsNoReasonForAGrant() {
    var it = Scenario.transferring(.none)
    it.lose(.source)
    it.feed(.monitorReady(.source, it.release))
    it.report(.source, .completed)
    it.reply(.source, .queryStatus, .lost)
    for _ in 0..<30 {
      it.pass(.seconds(1))
      it.event(.target, .migration(.completed))
    }
    #expect(it.sent(.cont, to: .target) == 0)
  }

  /// I8: the source's last words say whether the guest was paused; here nobody heard them.
  @Test func aSourceThatEndsUnheardMayHaveBeenPausedBefore() {
    var it = Scenario.transferring(.none)
    it.lose(.source)
    it.feed(.processExited(.source))
    it.targetState = .paused
    it.event(.target, .migration(.completed))
    it.settle()
    for _ in 0..<30 {
      it.pass(.seconds(1))
      it.settle()
    }
    #expect(it.sent(.cont, to: .target) == 0)
    #expect(it.engine.conclusion?.owner == .target)
    #expect(it.engine.conclusion?.guest == .paused)
  }

  @Test func aSourceThatWasHeardToItsEndWasNotPaused() {
    var it = Scenario.transferring(.none)
    it.die(.source)
    it.event(.target, .migration(.completed))
    it.settle()
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func aContinueThatIsNotAnsweredInTimeIsSaidAgain() {
    var it = continued()
    it.reply(.source, .migrateContinue, .lost)
    #expect(it.sent(.migrateContinue, to: .source) == 1)
    it.pass(.seconds(3))
    it.settle(except: Command.ofRecovery)
    it.report(.source, .preSwitchover)
    #expect(it.sent(.migrateContinue, to: .source) == 2)
  }

  @Test func aContinueIsSaidAgainEvenWhereTheTargetIsGone() {
    var it = continued()
    it.lose(.source)
    it.die(.target)
    it.comeBack(.source, .finishMigrate, .preSwitchover)
    // The source fails by it, and takes the guest back; a cancel would come too late (I4).
    #expect(it.sent(.migrateContinue, to: .source) == 2)
    #expect(it.sent(.migrateCancel, to: .source) == 0)
  }

  @Test func aLostCancelIsSaidAgain() {
    var it = Scenario.transferring(.none)
    it.feed(.cancelRequested)
    it.report(.source, .active)
    #expect(it.sent(.migrateCancel, to: .source) == 1)
    it.lose(.source)
    it.comeBack(.source, .running, .active)
    #expect(it.sent(.migrateCancel, to: .source) == 2)
    it.reply(.source, .migrateCancel)
    it.event(.source, .migration(.cancelled))
    it.settle()
    #expect(it.engine.conclusion?.end == .cancelled)
  }

  @Test func nothingIsCancelledBeforeTheSourceHasSaidThatItRuns() {
    var it = Scenario.transferring(.none)
    it.lose(.source)
    it.feed(.cancelRequested)
    it.feed(.monitorReady(.source, it.release))
    #expect(it.sent(.migrateCancel, to: .source) == 0)
    it.sourceState = .finishMigrate
    it.settle(except: Command.ofRecovery)
    it.report(.source, .device)
    #expect(it.sent(.migrateCancel, to: .source) == 0)
  }

  @Test(arguments: [RunState.paused, .inmigrate])
  func aGrantThatIsNotAnsweredInTimeIsSettledByALaterAnswer(state: RunState) {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.reply(.target, .cont, .lost)
    #expect(it.engine.owner == .unknown)
    it.targetState = state
    it.pass(.seconds(3))
    it.settle(except: Command.ofRecovery)
    #expect(it.sent(.cont, to: .target) == 2)
    it.event(.target, .resume)
    it.reply(.target, .cont)
    #expect(it.engine.owner == .target)
  }

  @Test func aGrantThatIsNeverAnsweredEndsUnknown() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.reply(.target, .cont, .lost)
    it.pass(.seconds(1))
    it.pass(.seconds(61))
    #expect(it.engine.phase == .undoing)
    it.report(.source, .completed)
    it.pass(.seconds(20))
    it.settle(except: Command.ofRecovery)
    it.pass(.seconds(20))
    #expect(it.engine.conclusion?.end == .unknown)
    #expect(it.sent(.cont, to: .source) == 0)
  }

  @Test func aStopThatNobodyHeardLeavesTheRunStateUnknown() {
    var it = Scenario.transferring(.none)
    it.lose(.source)
    // Somebody may have paused the guest in between (I8).
    it.comeBack(.source, .postmigrate, .completed)
    it.event(.target, .migration(.completed))
    it.targetState = .paused
    it.settle()
    #expect(it.sent(.cont, to: .target) == 0)
    it.report(.source, .completed)
    it.settle()
    #expect(it.engine.conclusion?.owner == .target)
    #expect(it.engine.conclusion?.guest == .paused)
    #expect(it.engine.conclusion?.failure?.code == .notResumed)
  }

  @Test func aGuestThatIsFoundRunningAfterAReconnectIsGranted() {
    var it = Scenario.transferring(.none)
    it.lose(.source)
    it.comeBack(.source, .running, .active)
    it.completeOnSource()
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func aStopThatWasExplainedNeedsNoSecondExplanation() {
    var it = Scenario.transferring(.none)
    it.event(.source, .stop)
    it.sourceState = .finishMigrate
    it.settle()
    it.lose(.source)
    it.comeBack(.source, .postmigrate, .completed)
    #expect(it.sent(.cont, to: .target) == 1)
  }

  @Test func aPauseThatIsExplainedDuringThePreflightCounts() {
    var it = Scenario(.none)
    it.feed(.startRequested)
    it.feed(.monitorReady(.source, it.release))
    it.feed(.monitorReady(.target, it.release))
    it.settle(except: [.stop])
    it.event(.source, .stop)
    it.sourceState = .ioError
    it.settle(except: [.stop])
    #expect(it.engine.phase == .preflight)
    it.settle()
    it.sourceState = .postmigrate
    it.targetState = .paused
    it.event(.source, .migration(.completed))
    it.event(.target, .migration(.completed))
    it.settle()
    #expect(it.sent(.cont, to: .target) == 0)
  }

  @Test func aGuestFoundShutDownOnTheTargetIsNamedSo() {
    var it = Scenario.transferring(.none)
    it.lose(.source)
    it.comeBack(.source, .postmigrate, .completed)
    it.event(.target, .migration(.completed))
    it.targetState = .shutdown
    it.settle()
    it.report(.source, .completed)
    it.settle()
    #expect(it.sent(.cont, to: .target) == 0)
    #expect(it.engine.conclusion?.guest == .off)
    #expect(it.engine.conclusion?.failure?.code == .guestOff)
  }
}

/// Others act on the pair while we do.
struct StrangerScenarios {
  @Test(arguments: [false, true])
  func aSourceThatSomebodyResumedForbidsTheGrant(seenByQuery: Bool) {
    var it = Scenario.transferring(.beforeResume)
    it.completeOnSource()
    it.sourceState = .running
    if seenByQuery {
      it.lose(.source)
      it.comeBack(.source, .running, .completed)
    } else {
      it.event(.source, .resume)
    }
    it.feed(.handOverReported(.done))
    if !seenByQuery { it.report(.source, .completed) }
    it.settle(except: Command.ofRecovery)
    #expect(it.sent(.cont, to: .target) == 0)
    // What the target has is out of date: nobody is to resume it.
    it.reply(.target, .quit)
    it.die(.target)
    it.settle()
    #expect(it.sent(.cont, to: .target) == 0)
    #expect(it.sent(.quit, to: .source) == 0)
    #expect(it.engine.conclusion?.owner == .source)
    #expect(it.engine.conclusion?.guest == .running)
    #expect(it.engine.conclusion?.failure?.code == .cancelledElsewhere)
    #expect(it.engine.conclusion?.nextStep.contains("move ownership back") == true)
  }

  @Test func aSourceThatSomebodyResumedBehindTheGrantLeavesNobodySure() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    #expect(it.sent(.cont, to: .target) == 1)
    it.event(.source, .resume)
    it.event(.target, .resume)
    it.reply(.target, .cont)
    it.report(.source, .completed)
    it.settle(except: Command.ofRecovery)
    #expect(it.sent(.quit, to: .source) == 0)
    #expect(it.sent(.quit, to: .target) == 0)
    #expect(it.engine.conclusion?.owner == .unknown)
  }

  /// I2: the whole guest may be there.
  @Test func aTargetThatIsSilentAboutADeadSourcesGuestMayHaveIt() {
    var it = Scenario.transferring(.none)
    it.event(.target, .migration(.active))
    it.feed(.fenced(.source))
    it.lose(.source)
    for _ in 0..<12 { it.pass(.seconds(9)) }
    #expect(it.engine.phase == .ended)
    #expect(it.engine.conclusion?.owner == .nobody)
    #expect(it.engine.conclusion?.guest == .unknown)
    #expect(it.sent(.cont, to: .target) == 0)
  }

  @Test func aTargetThatSaysItHasNotADeadSourcesGuestIsBelieved() {
    var it = Scenario.transferring(.none)
    it.event(.target, .migration(.active))
    it.feed(.fenced(.source))
    it.lose(.source)
    for _ in 0..<12 {
      it.pass(.seconds(9))
      if it.open.contains(where: { $0 == (.target, .queryMigrate) }) { it.report(.target, .active) }
    }
    #expect(it.engine.phase == .ended)
    #expect(it.engine.conclusion?.owner == .source)
    #expect(it.engine.conclusion?.guest == .off)
  }

  @Test func aSourceThatWeResumedIsNotAStrangers() {
    var it = Scenario.transferring(.beforeResume)
    it.completeOnSource()
    it.die(.target)
    it.feed(.handOverReported(.failed))
    it.report(.source, .completed)
    it.settle(except: [.cont])
    it.event(.source, .resume)
    it.sourceState = .running
    it.reply(.source, .cont)
    it.settle()
    it.pass(.seconds(1))
    it.settle()
    #expect(it.engine.conclusion?.owner == .source)
    #expect(it.engine.conclusion?.failure?.code == .handOver)
  }
}

/// The host program resumes the target itself, and something ends meanwhile.
struct ExternalScenarios {
  @Test func theWritersEndBeforeTheHostProgramIsToldOfADeadSourcesGuest() throws {
    var it = Scenario.transferring(.external, disks: 1)
    it.event(.source, .stop)
    it.sourceState = .finishMigrate
    it.settle()
    it.event(.source, .migration(.preSwitchover))
    it.settle()
    it.reply(.source, .migrateContinue)
    it.die(.source)
    it.event(.target, .migration(.completed))
    #expect(it.sent(.nbdServerStop, to: .target) == 1)
    // I3: not before its server is gone.
    #expect(!it.log.contains(.handOverWanted))
    #expect(!it.log.contains(.letGo(of: .target)))
    it.reply(.target, .nbdServerStop)
    #expect(it.log.contains(.handOverWanted))
    #expect(it.log.contains(.letGo(of: .target)))
  }

  @Test func aTargetThatDiesBeforeItIsResumedGivesTheGuestBack() {
    var it = Scenario.transferring(.external)
    it.completeOnSource()
    it.letGoOfBoth()
    it.die(.target)
    #expect(it.engine.phase == .undoing)
    it.feed(.monitorReady(.source, it.release))
    it.report(.source, .completed)
    it.settle(except: Command.ofRecovery)
    #expect(it.sent(.cont, to: .source) == 0)
    it.feed(.handOverReported(.failed))
    it.settle(except: Command.ofRecovery)
    #expect(it.sent(.cont, to: .source) == 1)
  }

  @Test func aTargetThatDiesBeforeTheOfferGivesTheGuestBackAtOnce() {
    var it = Scenario.transferring(.external)
    it.completeOnSource()
    it.die(.target)
    it.report(.source, .completed)
    it.settle(except: Command.ofRecovery)
    #expect(!it.log.contains(.handOverWanted))
    #expect(it.sent(.cont, to: .source) == 1)
  }

  @Test func aTargetThatDiesAndAHostProgramThatIsSilentEnd() {
    var it = Scenario.transferring(.external)
    it.completeOnSource()
    it.letGoOfBoth()
    it.die(.target)
    it.feed(.monitorReady(.source, it.release))
    it.report(.source, .completed)
    it.settle(except: Command.ofRecovery)
    it.pass(.seconds(61))
    it.settle(except: Command.ofRecovery)
    #expect(it.engine.conclusion?.owner == .unknown)
    #expect(it.sent(.cont, to: .source) == 0)
  }

  @Test func aTargetThatNobodyFindsEnds() {
    var it = Scenario.transferring(.external)
    it.completeOnSource()
    it.letGoOfBoth()
    for _ in 0..<100 {
      it.pass(.seconds(1))
      if it.engine.phase != .handingOver { break }
      it.feed(.monitorUnavailable(.target, .unreachable(text: "connection refused")))
    }
    #expect(it.engine.phase == .undoing)
  }

  @Test func aMonitorThatTheHostProgramHoldsIsNotMissing() {
    var it = Scenario.transferring(.external)
    it.completeOnSource()
    it.letGoOfBoth()
    for _ in 0..<100 {
      it.pass(.seconds(1))
      it.feed(.monitorUnavailable(.target, .busy))
    }
    #expect(it.engine.phase == .handingOver)
  }

  @Test func aGuestThatStandsForAReasonOfItsOwnHasRun() {
    var it = Scenario.transferring(.external)
    it.completeOnSource()
    it.letGoOfBoth()
    it.pass(.seconds(1))
    it.comeBack(.target, .ioError, .completed)
    it.settle()
    it.feed(.monitorReady(.source, it.release))
    it.report(.source, .completed)
    it.settle()
    #expect(it.engine.conclusion?.owner == .target)
    #expect(it.engine.conclusion?.guest == .paused)
  }

  @Test func aSourceThatDiesAfterCompletedLeavesTheGuestAtTheTarget() {
    var it = Scenario.transferring(.external)
    it.completeOnSource()
    it.lose(.target)
    it.die(.source)
    it.feed(.handOverReported(.unknown))
    it.settle()
    it.pass(.seconds(70))
    #expect(it.engine.conclusion != nil)
    #expect(it.engine.conclusion?.owner != .source)
    #expect(it.engine.conclusion?.guest != .off)
  }

  @Test func aTargetThatCouldNotLoadNeverRan() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.reply(.target, .cont)
    it.event(.target, .migration(.failed))
    it.report(.source, .completed)
    it.lose(.target)
    it.settle(except: Command.ofRecovery)
    // Its own word, without the kernel's: it has no guest.
    #expect(it.sent(.cont, to: .source) == 1)
  }
}
