import MigrationEngine
import Testing

/// How migrations end, and what is left behind.
struct EndScenarios {
  private static let before = [
    CapabilitySetting(name: "events", on: false), CapabilitySetting(name: "return-path", on: false),
  ]

  private func failed(_ status: MigrationStatus) -> CommandReply {
    var report = MigrationReport()
    report.status = status
    return .answered(.migration(report))
  }

  @Test func settingsAreBackBeforeAnEndThatNobodyOwns() {
    var it = Scenario.transferring(.beforeResume)
    it.completeOnSource()
    it.feed(.handOverReported(.unknown))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    #expect(it.engine.conclusion == nil)
    #expect(it.sent(.setCapabilities(Self.before), to: .source) == 1)
    #expect(
      it.sent(
        .setCapabilities(Self.before + [CapabilitySetting(name: "late-block-activate", on: false)]),
        to: .target) == 1)
    it.settle()
    #expect(it.engine.conclusion?.owner == .nobody)
  }

  @Test func aTargetThatReceivesIsLeftAlone() {
    var it = Scenario.transferring(.none)
    it.feed(.monitorLost(.source))
    it.feed(.monitorUnavailable(.source, .unreachable(text: "connection refused")))
    #expect(it.engine.conclusion?.owner == .unknown)
    #expect(it.open.allSatisfy { $0.side != .target })
  }

  @Test func theHostProgramIsToldToTakeOwnershipBackHoweverLongTheGuestStood() {
    var it = Scenario.transferring(.beforeResume)
    it.completeOnSource()
    it.pass(.seconds(20))
    it.die(.target)
    it.feed(.handOverReported(.done))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    let warnings = it.log.filter { if case .warn = $0 { true } else { false } }
    #expect(warnings.count == 1)
    it.pass(.seconds(20))
    #expect(it.engine.conclusion == nil)
    it.feed(.handedBack)
    it.settle()
    #expect(it.sent(.cont, to: .source) == 1)
  }

  @Test func aTargetThatTheHostProgramDidNotResumeIsLookedAtAndEnded() {
    var it = Scenario.transferring(.external)
    it.completeOnSource()
    it.letGoOfBoth()
    it.feed(.handOverReported(.failed))
    #expect(it.log.contains(.attach(.source)))
    it.feed(.monitorReady(.source, it.release))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    #expect(it.log.contains(.attach(.target)))
    it.feed(.monitorReady(.target, it.release))
    #expect(it.sent(.quit, to: .target) == 0)
    it.targetState = .paused
    it.settle()
    it.reply(.target, .quit)
    #expect(it.sent(.cont, to: .source) == 0)
    it.feed(.monitorLost(.target))
    it.sourceState = .postmigrate
    it.settle()
    #expect(it.sent(.cont, to: .source) == 1)
  }

  @Test func aTargetThatRunsAgainstTheHostProgramsWordIsItsOwner() {
    var it = Scenario.transferring(.external)
    it.completeOnSource()
    it.letGoOfBoth()
    it.feed(.handOverReported(.failed))
    #expect(it.log.contains(.attach(.source)))
    it.feed(.monitorReady(.source, it.release))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.feed(.monitorReady(.target, it.release))
    it.targetState = .running
    it.settle()
    it.reply(.target, .queryMigrate, .answered(.unreadable))
    it.pass(.seconds(11))
    it.settle()
    #expect(it.engine.conclusion?.owner == .target)
    #expect(it.sent(.quit, to: .target) == 0)
    #expect(it.sent(.cont, to: .source) == 0)
  }

  @Test func somebodyElsesCancelIsNotTakenForTheTargetsEnd() {
    var it = Scenario.transferring(.none)
    it.die(.target)
    it.event(.source, .migration(.cancelling))
    it.reply(.source, .queryMigrate, failed(.cancelling))
    it.event(.source, .migration(.cancelled))
    it.settle()
    #expect(it.sent(.migrateCancel, to: .source) == 0)
    #expect(it.engine.conclusion?.failure?.code == .cancelledElsewhere)
  }

  @Test func aTargetThatEndsIsTheReasonForOurCancel() {
    var it = Scenario.transferring(.none)
    it.die(.target)
    it.reply(.source, .queryMigrate, failed(.active))
    #expect(it.sent(.migrateCancel, to: .source) == 1)
    it.reply(.source, .migrateCancel)
    it.event(.source, .migration(.cancelled))
    it.settle()
    #expect(it.engine.conclusion?.failure?.code == .targetGone)
  }

  @Test func aTargetThatEndsWithItsSourceIsNotTheReason() {
    var it = Scenario.transferring(.none)
    it.die(.target)
    it.die(.source)
    #expect(it.engine.conclusion?.failure?.code == .sourceGone)
    #expect(it.engine.conclusion?.guest == .off)
  }

  @Test func aSourceOutOfSightIsWaitedForBeforeItQuits() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.reply(.target, .cont)
    it.feed(.monitorLost(.source))
    it.open.removeAll { $0.side == .source }
    it.event(.target, .resume)
    it.settle()
    #expect(it.engine.phase == .finishing)
    it.feed(.monitorReady(.source, it.release))
    it.reply(.source, .quit)
    it.settle()
    #expect(it.engine.conclusion == nil)
    it.feed(.monitorLost(.source))
    #expect(it.engine.conclusion?.end == .completed)
    #expect(it.engine.conclusion?.nextStep == "")
  }

  @Test func whatALostConnectionTookWithItIsSaidAgain() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.reply(.target, .cont)
    it.event(.target, .resume)
    it.pass(.milliseconds(20))
    #expect(it.sent(.quit, to: .source) == 1)
    // Both connections were dead already, and nobody knew.
    for side in Side.allCases {
      it.feed(.monitorLost(side))
      while let index = it.open.firstIndex(where: { $0.side == side }) {
        let lost = it.open.remove(at: index)
        it.feed(.replied(side, lost.command, .lost, roundTrip: .zero))
      }
    }
    #expect(it.engine.conclusion == nil)
    for side in Side.allCases { it.feed(.monitorReady(side, it.release)) }
    it.settle()
    #expect(it.sent(.quit, to: .source) == 2)
    #expect(
      it.log.count { if case .send(.setCapabilities, to: .target) = $0 { true } else { false } }
        == 3)
    it.reply(.target, .queryMigrate, .answered(.unreadable))
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.reply(.source, .quit)
    it.feed(.monitorLost(.source))
    it.settle()
    #expect(it.engine.conclusion?.end == .completed)
    #expect(it.engine.conclusion?.nextStep == "")
  }

  @Test func aSourceThatCannotBeToldToQuitIsNamed() {
    var it = Scenario.transferring(.none)
    it.completeOnSource()
    it.reply(.target, .cont)
    it.feed(.monitorLost(.source))
    it.open.removeAll { $0.side == .source }
    it.feed(.monitorUnavailable(.source, .unreachable(text: "connection refused")))
    it.event(.target, .resume)
    it.settle()
    #expect(it.engine.conclusion?.end == .completed)
    #expect(
      it.engine.conclusion?.nextStep == "end the source's QEMU: it must not be resumed")
  }

  @Test(arguments: [false, true])
  func aGuestThatIsGoneFromTheTargetIsNotSaidToRun(poweredOff: Bool) {
    var it = Scenario.transferring(.afterResume)
    it.completeOnSource()
    it.reply(.target, .cont)
    it.event(.target, .migration(.completed))
    it.event(.target, .resume)
    #expect(it.engine.guest == .running)
    if poweredOff { it.event(.target, .shutdown(byGuest: true)) }
    it.die(.target)
    it.feed(.handOverReported(.done))
    it.settle()
    it.reply(.source, .queryMigrate, .answered(.unreadable))
    it.reply(.source, .quit)
    it.die(.source)
    #expect(it.engine.conclusion?.end == .completed)
    #expect(it.engine.conclusion?.owner == .target)
    #expect(it.engine.conclusion?.guest == .off)
    #expect(it.engine.conclusion?.nextStep.isEmpty == poweredOff)
  }
}
