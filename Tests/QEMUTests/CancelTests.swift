import CSwitchover
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A cancel")
  struct Cancel {
    private static let tooLate =
      "swo_migration_cancel: the switchover is past the point where it can be cancelled; it goes on"

    @Test("while it connects", arguments: QEMUVersion.allCases)
    func connecting(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let holder = try HarnessMonitor(.unix(situation.source.monitorPaths[0]))
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      try migration.start()
      try migration.pump(for: .milliseconds(100))
      #expect(migration.phase == .SWO_PHASE_CONNECTING)
      #expect(migration.cancel().code == .SWO_OK)
      // Nobody has been asked anything yet.
      situation.expect(try migration.finish(), .cancelled(.SWO_GUEST_UNKNOWN))
      #expect(try holder.runState() == "running")
      holder.close()
      situation.expectSourceUnharmed()
    }

    @Test(
      "before RAM travels", arguments: QEMUVersion.allCases,
      [swo_phase.SWO_PHASE_PREFLIGHT, .SWO_PHASE_PREPARING])
    func preparing(version: QEMUVersion, phase: swo_phase) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME)
      try migration.start()
      try migration.pump(untilPhase: phase)
      #expect(migration.cancel().code == .SWO_OK)
      let isDisarmed = phase == .SWO_PHASE_PREPARING
      situation.expect(
        try migration.finish(), .cancelled(nextStep: isDisarmed ? Outcome.endTarget : ""))
      #expect(try situation.target.monitor.runState() == "inmigrate")
      #expect(try situation.source.monitor.migrationStatus() == "")
      situation.expectSourceUnharmed()
    }

    @Test(
      "while RAM travels", arguments: QEMUVersion.allCases,
      [swo_hand_over.SWO_HAND_OVER_NONE, .SWO_HAND_OVER_BEFORE_RESUME])
    func transferring(version: QEMUVersion, handOver: swo_hand_over) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let migration = try situation.migration(handOver, Situation.slow)
      try situation.startTransfer(migration)
      #expect(migration.cancel().code == .SWO_OK)
      // Whether the target has ended by then is left to chance.
      situation.expect(
        try migration.finish(), .cancelled(), .cancelled(nextStep: Outcome.endTarget))
      situation.expectExit(of: .target, .exited(status: 1))
      situation.expectSourceUnharmed()
    }

    @Test("asked for twice is one", arguments: QEMUVersion.allCases)
    func twice(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE, Situation.slow)
      try situation.startTransfer(migration)
      #expect(migration.cancel().code == .SWO_OK)
      #expect(migration.cancel().code == .SWO_OK)
      situation.expect(
        try migration.finish(), .cancelled(), .cancelled(nextStep: Outcome.endTarget))
      #expect(migration.cancel().code == .SWO_E_STATE)
      situation.expectSourceUnharmed()
    }

    @Test(
      "after STOP is too late", arguments: QEMUVersion.allCases,
      [swo_hand_over.SWO_HAND_OVER_NONE, .SWO_HAND_OVER_BEFORE_RESUME])
    func afterStop(version: QEMUVersion, handOver: swo_hand_over) throws {
      let situation = try Situation(version, Situation.heavyGuest)
      _ = try situation.useRelay()
      let migration = try situation.migration(handOver, Situation.longBlackout)
      try situation.startBlackout(migration)
      #expect(migration.cancel() == (.SWO_E_TOO_LATE, Self.tooLate))
      situation.releaseLoad()
      if handOver == .SWO_HAND_OVER_BEFORE_RESUME {
        try migration.pumpUntilHandOverIsWanted()
        #expect(migration.cancel() == (.SWO_E_TOO_LATE, Self.tooLate))
        try migration.handedOver(.SWO_HAND_OVER_DONE)
      }
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test(
      "that QEMU overtakes ends where QEMU says", arguments: QEMUVersion.allCases,
      [swo_hand_over.SWO_HAND_OVER_NONE, .SWO_HAND_OVER_BEFORE_RESUME])
    func overtaken(version: QEMUVersion, handOver: swo_hand_over) throws {
      let situation = try Situation(version, Situation.heavyGuest)
      _ = try situation.useRelay()
      let migration = try situation.migration(handOver, Situation.longBlackout)
      try situation.startHeavyTransfer(migration)
      // The guest stands already, and the library does not know.
      try situation.source.monitor.waitForEvent("STOP")
      #expect(migration.cancel().code == .SWO_OK)
      situation.releaseLoad()
      try migration.pump { $0.isFinished || $0.handOversWanted > 0 }
      if migration.handOversWanted > 0 { try migration.handedOver(.SWO_HAND_OVER_DONE) }
      let outcome = try migration.finish()
      situation.expect(
        outcome, .completed(), .cancelled(), .cancelled(nextStep: Outcome.endTarget))
      if outcome.owner == .SWO_OWNER_TARGET {
        situation.expectGuestRuns(on: .target)
        situation.expectNothingLeftOn()
      } else {
        // The target may have loaded all of it. Disarmed, it stands until it is ended.
        situation.expectGuestRuns(on: .source)
        situation.expectNothingLeftOn(except: .target)
        situation.expectSourceMigratesByHand()
      }
    }

    @Test("once the target is granted is too late", arguments: QEMUVersion.allCases)
    func activating(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try situation.holdLoad()
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      try situation.startTransfer(migration)
      try migration.pump(untilPhase: .SWO_PHASE_ACTIVATING)
      #expect(migration.cancel() == (.SWO_E_TOO_LATE, Self.tooLate))
      situation.releaseLoad()
      try migration.pump(untilPhase: .SWO_PHASE_FINISHING)
      #expect(migration.cancel() == (.SWO_E_TOO_LATE, Self.tooLate))
      situation.expect(try migration.finish(), .completed())
      #expect(migration.cancel().code == .SWO_E_STATE)
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("while the guest's ownership follows it is too late", arguments: QEMUVersion.allCases)
    func afterResume(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_AFTER_RESUME)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      #expect(migration.cancel() == (.SWO_E_TOO_LATE, Self.tooLate))
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
    }
  }

  @Suite("A check")
  struct Check {
    @Test("changes nothing, not even the target's mind", arguments: QEMUVersion.allCases)
    func changesNothing(version: QEMUVersion) throws {
      let situation = try Situation(version) { $0.targetStartsPaused = false }
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME) {
        $0.capabilities = ["xbzrle": true]
        $0.parameters = ["multifd-channels": "7"]
      }
      try migration.check()
      situation.expect(
        try migration.finish(),
        Outcome(
          end: .SWO_END_COMPLETED, owner: .SWO_OWNER_SOURCE, guest: .SWO_GUEST_RUNNING))
      situation.expectGuestRuns(on: .source)
      situation.expectNothingLeftOn()
      #expect(try situation.target.monitor.runState() == "inmigrate")
      // The same target still starts by itself, for whoever relies on that.
      try situation.pair.migrateByHand(grant: .automatic)
      situation.expectGuestRuns(on: .target)
    }

    @Test("finds what a migration would find", arguments: QEMUVersion.allCases)
    func refuses(version: QEMUVersion) throws {
      let situation = try Situation(version) { $0.targetArguments = ["-m", "64"] }
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      try migration.check()
      let failure = Outcome.Failure(
        .SWO_FAILURE_MISMATCH,
        text: "memory sizes differ: source 134217728 bytes, target 67108864 bytes")
      situation.expect(try migration.finish(), .failed(failure))
      situation.expectGuestRuns(on: .source)
      situation.expectNothingLeftOn()
    }
  }
}
