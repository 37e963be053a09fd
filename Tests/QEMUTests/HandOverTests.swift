import CSwitchover
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A hand-over")
  struct HandOver {
    /// A migration whose hand-over is asked for.
    private func pending(
      _ situation: Situation, _ change: (inout MigrationUnderTest.Settings) -> Void = { _ in }
    ) throws -> MigrationUnderTest {
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME, change)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      return migration
    }

    @Test("that failed gives the guest back to the source", arguments: QEMUVersion.allCases)
    func failed(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try pending(situation) { $0.sourceEnd = .SWO_SOURCE_QUIT }
      try migration.handedOver(.SWO_HAND_OVER_FAILED)
      let failure = Outcome.Failure(
        .SWO_FAILURE_HAND_OVER, text: "the host program could not move ownership to the target")
      situation.expect(try migration.finish(), .failed(failure))
      situation.expectExit(of: .target, .exited(status: 0))
      situation.expectSourceUnharmed()
    }

    @Test("of unknown outcome resumes nobody", arguments: QEMUVersion.allCases)
    func unknown(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try pending(situation)
      try migration.handedOver(.SWO_HAND_OVER_UNKNOWN)
      situation.expect(
        try migration.finish(),
        Outcome(
          end: .SWO_END_FAILED, owner: .SWO_OWNER_NOBODY, guest: .SWO_GUEST_PAUSED,
          failure: Outcome.Failure(
            .SWO_FAILURE_HAND_OVER,
            text: "the host program does not know whether ownership moved"),
          nextStep: "settle where the cluster believes the guest to be, then resume that side: "
            + "switchover recover"))
      situation.expectGuestStands()
      situation.expectNothingLeftOn()
      // Settled in the target's favour.
      try situation.expectGuestGoesOn(on: .target)
    }

    @Test(
      "to a target that died is taken back by the host program", arguments: QEMUVersion.allCases)
    func handedBack(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try pending(situation)
      situation.target.close()
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      try migration.pump { !$0.warnings.isEmpty || $0.isFinished }
      #expect(
        migration.warnings == [
          "target's QEMU could not load the guest, or ended; the guest stands on the source and may be "
            + "resumed there once ownership has been moved back"
        ])
      situation.expectGuestStands()
      try migration.handedBack()
      situation.expect(try migration.finish(), .failed(.targetEnded))
      situation.expectSourceUnharmed()
    }

    @Test("that failed because the target died", arguments: QEMUVersion.allCases)
    func failedOnDeadTarget(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try pending(situation)
      situation.target.close()
      try migration.handedOver(.SWO_HAND_OVER_FAILED)
      let failure = Outcome.Failure(
        .SWO_FAILURE_HAND_OVER, text: "the host program could not move ownership to the target")
      situation.expect(try migration.finish(), .failed(failure))
      situation.expectSourceUnharmed()
    }

    @Test("outlives the source", arguments: QEMUVersion.allCases)
    func sourceDies(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try pending(situation)
      situation.source.close()
      try migration.pump(for: .milliseconds(300))
      #expect(!migration.isFinished)
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed(nextStep: ""))
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("is not disturbed by somebody's stop on the target", arguments: QEMUVersion.allCases)
    func stopOnTarget(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try pending(situation)
      // The guest stands already: QEMU keeps no memory of this.
      try situation.target.monitor.execute("stop")
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("answered twice, or unasked, is refused")
    func wrongAnswers() throws {
      let situation = try Situation(.system72)
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME)
      try migration.start()
      #expect(throws: HarnessError.self) { try migration.handedOver(.SWO_HAND_OVER_DONE) }
      try migration.pumpUntilHandOverIsWanted()
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      #expect(throws: HarnessError.self) { try migration.handedOver(.SWO_HAND_OVER_FAILED) }
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
    }

    @Test("that the host program makes itself, and then gives up", arguments: QEMUVersion.allCases)
    func externalGivenUp(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_EXTERNAL)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      try migration.handedOver(.SWO_HAND_OVER_FAILED)
      let failure = Outcome.Failure(
        .SWO_FAILURE_HAND_OVER, text: "the host program did not resume the target")
      situation.expect(try migration.finish(), .failed(failure))
      situation.expectSourceUnharmed()
    }

    @Test("after which the target dies", arguments: QEMUVersion.allCases)
    func targetDiesAfterResume(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_AFTER_RESUME)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      situation.target.close()
      try migration.pump(for: .milliseconds(300))
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      // It ran there: the source's guest is of the past.
      situation.expect(
        try migration.finish(),
        .completed(
          .SWO_GUEST_OFF,
          nextStep:
            "the guest ran on the target: start it afresh there; the source must not be resumed"
        ))
      situation.expectGuestStands()
    }
  }
}

extension Outcome.Failure {
  /// The target's QEMU is gone, after the source said `completed`.
  static let targetEnded = Outcome.Failure(
    .SWO_FAILURE_TARGET_GONE, .SWO_SIDE_TARGET,
    text: "target's QEMU could not load the guest, or ended")
}
