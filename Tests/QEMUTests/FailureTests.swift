import CSwitchover
import DemoGuest
import Glibc
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A failure before the switchover")
  struct FailureBefore {
    @Test(
      "of the connection leaves the guest on the source", arguments: QEMUVersion.allCases,
      ["unix", "tcp"])
    func refusedSocket(version: QEMUVersion, kind: String) throws {
      let situation = try Situation(version)
      let path = situation.directory.file("nobody.sock")
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME) {
        $0.uri = kind == "unix" ? "unix:\(path)" : "tcp:127.0.0.1:1"
        $0.incomingURI = situation.pair.migrationAddress
      }
      let reason =
        kind == "unix"
        ? "Failed to connect to '\(path)': No such file or directory"
        : "Failed to connect to '127.0.0.1:1': Connection refused"
      let failure = Outcome.Failure(
        .SWO_FAILURE_MIGRATION, .SWO_SIDE_SOURCE, command: "migrate",
        text: "migration failed: \(reason)")
      situation.expect(try migration.run(), .failed(failure, nextStep: Outcome.endTarget))
      #expect(migration.summary.contains(reason))
      #expect(migration.summary.contains("owner: source, guest running"))
      #expect(migration.summary.hasSuffix("next: \(Outcome.endTarget)"))
      #expect(try situation.target.monitor.runState() == "inmigrate")
      situation.expectSourceUnharmed()
    }

    @Test(
      "is the target's end while RAM travels", arguments: QEMUVersion.allCases,
      [swo_hand_over.SWO_HAND_OVER_NONE, .SWO_HAND_OVER_BEFORE_RESUME])
    func targetKilled(version: QEMUVersion, handOver: swo_hand_over) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let migration = try situation.migration(handOver, Situation.slow)
      try situation.startTransfer(migration)
      situation.target.close()
      situation.expectTargetLost(try migration.finish())
      situation.expectSourceUnharmed()
    }

    @Test("is the source's end while RAM travels", arguments: QEMUVersion.allCases)
    func sourceKilled(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE, Situation.slow)
      try situation.startTransfer(migration)
      situation.source.close()
      situation.expect(
        try migration.finish(),
        .failed(.sourceEnded, .SWO_GUEST_OFF, nextStep: Outcome.startAfresh))
      situation.expectExit(of: .target, .exited(status: 1))
      situation.expectGuestStands()
    }

    @Test("is a transfer without end", arguments: QEMUVersion.allCases)
    func deadline(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        Situation.slow(&$0)
        $0.transferDeadline = 500
      }
      let failure = Outcome.Failure(
        .SWO_FAILURE_DEADLINE, .SWO_SIDE_SOURCE, text: "the transfer did not converge within 500 ms"
      )
      situation.expect(
        try migration.run(), .failed(failure),
        .failed(failure, nextStep: Outcome.endTarget))
      situation.expectSourceUnharmed()
    }

    @Test("is somebody else's cancel", arguments: QEMUVersion.allCases)
    func cancelledElsewhere(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE, Situation.slow)
      try situation.startTransfer(migration)
      try situation.source.monitor.execute("migrate_cancel")
      let failure = Outcome.Failure(
        .SWO_FAILURE_CANCELLED_ELSEWHERE, .SWO_SIDE_SOURCE,
        text: "somebody else cancelled the migration")
      situation.expect(
        try migration.finish(), .failed(failure),
        .failed(failure, nextStep: Outcome.endTarget))
      situation.expectSourceUnharmed()
    }
  }

  @Suite("A failure in the blackout")
  struct FailureInBlackout {
    @Test(
      "is the target's end after STOP", arguments: QEMUVersion.allCases,
      [swo_hand_over.SWO_HAND_OVER_NONE, .SWO_HAND_OVER_BEFORE_RESUME])
    func targetKilledAfterStop(version: QEMUVersion, handOver: swo_hand_over) throws {
      let situation = try Situation(version, Situation.heavyGuest)
      let relay = try situation.useRelay()
      let migration = try situation.migration(handOver, Situation.longBlackout)
      try situation.startBlackout(migration)
      situation.target.close()
      relay.cut()
      situation.expectTargetLost(try migration.finish())
      situation.expectSourceUnharmed()
    }

    @Test("is the source's end after STOP", arguments: QEMUVersion.allCases)
    func sourceKilledAfterStop(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.heavyGuest)
      let relay = try situation.useRelay()
      let migration = try situation.migration(.SWO_HAND_OVER_NONE, Situation.longBlackout)
      try situation.startBlackout(migration)
      situation.source.close()
      relay.cut()
      situation.expect(
        try migration.finish(),
        .failed(.sourceEnded, .SWO_GUEST_OFF, nextStep: Outcome.startAfresh))
      situation.expectExit(of: .target, .exited(status: 1))
      situation.expectGuestStands()
    }

    @Test("is the target's end after the source's last byte", arguments: QEMUVersion.allCases)
    func targetKilledAfterCompleted(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try situation.holdLoad()
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      try situation.startTransfer(migration)
      // The library sleeps through the end of the source and the end of the target.
      try situation.source.monitor.waitForMigration("completed")
      situation.target.close()
      situation.expect(try migration.finish(), .failed(.targetEnded))
      situation.expectSourceUnharmed()
    }

    @Test("is the target's end after it was granted", arguments: QEMUVersion.allCases)
    func targetKilledAfterGrant(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try situation.holdLoad()
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      try situation.startTransfer(migration)
      try migration.pump(untilPhase: .SWO_PHASE_ACTIVATING)
      try migration.pump(for: .milliseconds(200))
      #expect(migration.outcome.owner == .SWO_OWNER_UNKNOWN)
      situation.target.close()
      situation.expect(try migration.finish(), .failed(.targetEnded))
      situation.expectSourceUnharmed()
    }

    @Test("is the source's end after its last byte", arguments: QEMUVersion.allCases)
    func sourceKilledAfterCompleted(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try situation.holdLoad()
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      try situation.startTransfer(migration)
      try migration.pump(untilPhase: .SWO_PHASE_ACTIVATING)
      situation.source.close()
      situation.releaseLoad()
      situation.expect(try migration.finish(), .completed(nextStep: ""))
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test(
      "is the source's end before the library could ask whether the guest ran",
      arguments: QEMUVersion.allCases)
    func sourceKilledUnasked(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try situation.holdLoad()
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      try situation.startTransfer(migration)
      try situation.source.monitor.waitForMigration("completed")
      situation.source.close()
      situation.releaseLoad()
      situation.expect(
        try migration.finish(),
        Outcome(
          end: .SWO_END_FAILED, owner: .SWO_OWNER_TARGET, guest: .SWO_GUEST_PAUSED,
          failure: .unknownWhetherItRan,
          nextStep: "if the guest was running, 'cont' on the target"))
      situation.expectGuestStands()
      situation.expectNothingLeftOn()
      try situation.expectGuestGoesOn(on: .target)
    }

    @Test(
      "is a device that the target lacks", arguments: QEMUVersion.allCases,
      [swo_hand_over.SWO_HAND_OVER_NONE, .SWO_HAND_OVER_BEFORE_RESUME])
    func missingDevice(version: QEMUVersion, handOver: swo_hand_over) throws {
      let situation = try Situation(version) {
        $0.sourceArguments = ["-device", "virtio-rng-pci"]
      }
      let migration = try situation.migration(handOver)
      let outcome = try migration.run()
      #expect(migration.handOversWanted == 0)
      if handOver == .SWO_HAND_OVER_NONE, outcome.failure?.code == .SWO_FAILURE_TARGET_GONE {
        // The source had sent all that it had. The target says that it failed, and ends then: the source
        // goes on at the first word.
        situation.expect(
          outcome, .failed(.targetEnded), .failed(.targetEnded, nextStep: Outcome.endTarget))
      } else {
        situation.expectTargetLost(outcome)
      }
      situation.expectExit(of: .target, .exited(status: 1))
      #expect(situation.target.standardError.contains("virtio-rng"))
      situation.expectGuestRuns(on: .source)
      situation.expectNothingLeftOn()
    }
  }
}

extension Outcome.Failure {
  static let unknownWhetherItRan = Outcome.Failure(
    .SWO_FAILURE_NOT_RESUMED, .SWO_SIDE_TARGET,
    text: "target has the guest, paused: whether it ran before the switchover is unknown")

  static let targetEndedInTransfer = Outcome.Failure(
    .SWO_FAILURE_TARGET_GONE, .SWO_SIDE_TARGET, text: "target's QEMU ended during the transfer")

  static let sourceEnded = Outcome.Failure(
    .SWO_FAILURE_SOURCE_GONE, .SWO_SIDE_SOURCE,
    text: "source's QEMU ended before it had sent the guest")
}
