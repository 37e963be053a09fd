import CSwitchover
import DemoGuest
import QEMUHarness
import Testing

extension RealQEMUs {
  /// What a guest can do by itself, in every phase in which it runs. In the others it stands: between
  /// STOP and RESUME it does nothing.
  @Suite("A guest that reboots, panics or gets an I/O error")
  struct ActingGuest {
    /// Phases before RAM travels, in which the guest runs on the source.
    static let early = [swo_phase.SWO_PHASE_PREFLIGHT, .SWO_PHASE_PREPARING]

    enum Stop: String, CaseIterable, CustomTestStringConvertible {
      case panic = "guest-panicked"
      case inputOutputError = "io-error"

      var testDescription: String { rawValue }
      var command: GuestCommand { self == .panic ? .panic : .writeFaultySector }

      func prepare(_ options: inout QEMUPair.Options) {
        if self == .panic {
          Situation.panickingGuest(&options)
        } else {
          Situation.guestOnFaultyDisk(&options)
        }
      }
    }

    private static func unfit(_ stop: Stop) -> Outcome.Failure {
      Outcome.Failure(
        .SWO_FAILURE_SOURCE_UNFIT, .SWO_SIDE_SOURCE, command: "query-status",
        text: "source is in run state '\(stop.rawValue)'; "
          + "only running, paused and suspended guests migrate")
    }

    /// A migration in an early phase, whose questions QEMU has answered and whose library waits.
    private func migration(
      _ situation: Situation, in phase: swo_phase, _ handOver: swo_hand_over = .SWO_HAND_OVER_NONE
    ) throws -> MigrationUnderTest {
      let migration = try situation.migration(handOver)
      try migration.start()
      try migration.pump(untilPhase: phase)
      // QEMU answers its monitors in turn.
      for _ in 0..<20 { _ = try situation.source.monitor.runState() }
      return migration
    }

    @Test("rebooted before RAM travels", arguments: QEMUVersion.allCases, early)
    func rebootEarly(version: QEMUVersion, phase: swo_phase) throws {
      let situation = try Situation(version)
      let migration = try migration(situation, in: phase)
      try situation.source.serial.send(.reboot)
      try situation.source.monitor.waitForEvent("RESET")
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("rebooted on the target, before its ownership followed", arguments: QEMUVersion.allCases)
    func rebootOnTarget(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_AFTER_RESUME)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      try situation.target.serial.send(.reboot)
      try situation.target.monitor.waitForEvent("RESET")
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      #expect(situation.pair.ticks.lines().count { $0 == .booted } == 2)
    }

    @Test(
      "rebooted in the very moment of the switchover", arguments: QEMUVersion.allCases,
      [swo_hand_over.SWO_HAND_OVER_NONE, .SWO_HAND_OVER_BEFORE_RESUME])
    func rebootAtSwitchover(version: QEMUVersion, handOver: swo_hand_over) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(handOver)
      try migration.start()
      try migration.pump(untilPhase: .SWO_PHASE_TRANSFERRING)
      try situation.source.serial.send(.reboot)
      try migration.pump { $0.isFinished || $0.handOversWanted > 0 }
      if migration.handOversWanted > 0 { try migration.handedOver(.SWO_HAND_OVER_DONE) }
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("stopped before is no guest to migrate", arguments: QEMUVersion.allCases, Stop.allCases)
    func stoppedBefore(version: QEMUVersion, stop: Stop) throws {
      let situation = try Situation(version, stop.prepare)
      try situation.source.serial.send(stop.command)
      try situation.source.monitor.waitForRunState(stop.rawValue)
      situation.expect(
        try situation.migration(.SWO_HAND_OVER_NONE).run(),
        .failed(Self.unfit(stop), .SWO_GUEST_PAUSED))
      situation.expectGuestStands()
      situation.expectNothingLeftOn()
      #expect(try situation.target.monitor.runState() == "inmigrate")
    }

    @Test(
      "stopped before RAM travels arrives so", arguments: QEMUVersion.allCases,
      Self.early.flatMap { phase in Stop.allCases.map { (phase, $0) } })
    func stoppedEarly(version: QEMUVersion, moment: (phase: swo_phase, stop: Stop)) throws {
      let situation = try Situation(version, moment.stop.prepare)
      let migration = try migration(situation, in: moment.phase)
      try situation.source.serial.send(moment.stop.command)
      try situation.source.monitor.waitForRunState(moment.stop.rawValue)
      let outcome = try migration.finish()
      if moment.phase == .SWO_PHASE_PREFLIGHT, outcome.owner == .SWO_OWNER_SOURCE {
        // The first question found it standing already.
        situation.expect(outcome, .failed(Self.unfit(moment.stop), .SWO_GUEST_PAUSED))
        return situation.expectGuestStands()
      }
      situation.expect(outcome, .completed(.SWO_GUEST_PAUSED))
      try situation.expectGuestArrivedStanding(state: moment.stop.rawValue)
    }

    @Test(
      "stopped by a panic on the target, before its ownership followed",
      arguments: QEMUVersion.allCases)
    func panicOnTarget(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.panickingGuest)
      let migration = try situation.migration(.SWO_HAND_OVER_AFTER_RESUME) {
        $0.sourceEnd = .SWO_SOURCE_QUIT
      }
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      try situation.target.serial.send(.panic)
      try situation.target.monitor.waitForRunState("guest-panicked")
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed(.SWO_GUEST_PAUSED, nextStep: ""))
      situation.expectExit(of: .source, .exited(status: 0))
      situation.expectGuestStands()
    }

    @Test("whose panic ends its QEMU while RAM travels", arguments: QEMUVersion.allCases)
    func fatalPanic(version: QEMUVersion) throws {
      let situation = try Situation(version) {
        Situation.busyGuest(&$0)
        $0.common.hasPanicDevice = true
        $0.common.arguments = ["-action", "panic=shutdown"]
      }
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME, Situation.slow)
      try situation.startTransfer(migration)
      try situation.source.serial.send(.panic)
      situation.expect(
        try migration.finish(),
        .failed(
          .guestOff, .SWO_GUEST_OFF,
          nextStep: "start the guest afresh where its configuration is; end the target"))
      #expect(situation.source.waitForExit() != nil)
      #expect(situation.target.waitForExit() != nil)
      #expect(migration.handOversWanted == 0)
      situation.expectGuestStands()
    }

    @Test("that powers off while the migration is prepared", arguments: QEMUVersion.allCases)
    func powerOffInPreparation(version: QEMUVersion) throws {
      let situation = try Situation(version) { $0.sourceArguments = ["-no-shutdown"] }
      let migration = try migration(situation, in: .SWO_PHASE_PREPARING)
      try situation.source.serial.send(.powerOff)
      try situation.source.monitor.waitForRunState("shutdown")
      let outcome = try migration.finish()
      #expect(outcome.end == .SWO_END_FAILED, "\(outcome)")
      #expect(outcome.owner == .SWO_OWNER_SOURCE, "\(outcome)")
      #expect(outcome.guest == .SWO_GUEST_OFF, "\(outcome)")
      #expect(outcome.failure?.code == .SWO_FAILURE_GUEST_OFF, "\(outcome)")
      situation.expectGuestStands()
      situation.expectNothingLeftOn()
    }
  }
}
