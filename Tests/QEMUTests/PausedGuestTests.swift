import CSwitchover
import DemoGuest
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A guest that stands at the switchover does not run after it (I8)")
  struct PausedGuest {
    private static let everyHandOver: [swo_hand_over] = [
      .SWO_HAND_OVER_NONE, .SWO_HAND_OVER_BEFORE_RESUME, .SWO_HAND_OVER_AFTER_RESUME,
    ]

    /// Answers the hand-over, if one is asked for, and ends.
    private func finish(_ migration: MigrationUnderTest) throws -> Outcome {
      try migration.pump { $0.isFinished || $0.handOversWanted > 0 }
      if migration.handOversWanted > 0 { try migration.handedOver(.SWO_HAND_OVER_DONE) }
      return try migration.finish()
    }

    @Test("paused before", arguments: QEMUVersion.allCases, everyHandOver)
    func before(version: QEMUVersion, handOver: swo_hand_over) throws {
      let situation = try Situation(version)
      try situation.source.monitor.execute("stop")
      let migration = try situation.migration(handOver)
      try migration.start()
      situation.expect(try finish(migration), .completed(.SWO_GUEST_PAUSED))
      try situation.expectGuestArrivedStanding()
      try situation.expectGuestGoesOn(on: .target)
    }

    @Test("paused before, with the source ended after it", arguments: QEMUVersion.allCases)
    func beforeWithQuit(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try situation.source.monitor.execute("stop")
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        $0.sourceEnd = .SWO_SOURCE_QUIT
      }
      situation.expect(try migration.run(), .completed(.SWO_GUEST_PAUSED, nextStep: ""))
      situation.expectExit(of: .source, .exited(status: 0))
      try situation.expectGuestArrivedStanding()
      try situation.expectGuestGoesOn(on: .target)
    }

    @Test("paused while RAM travels", arguments: QEMUVersion.allCases, everyHandOver)
    func inTransfer(version: QEMUVersion, handOver: swo_hand_over) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let migration = try situation.migration(handOver, Situation.slow)
      try situation.startTransfer(migration)
      // Somebody else, on a monitor of his own.
      let somebody = try HarnessMonitor(.unix(situation.source.monitorPaths[1]))
      try somebody.execute("stop")
      try migration.pump {
        $0.phase == .SWO_PHASE_TRANSFERRING && $0.outcome.guest == .SWO_GUEST_PAUSED
      }
      try situation.letTransferEnd()
      situation.expect(try finish(migration), .completed(.SWO_GUEST_PAUSED))
      try situation.expectGuestArrivedStanding()
      try situation.expectGuestGoesOn(on: .target)
    }

    @Test(
      "but one that was paused and resumed while RAM travels runs", arguments: QEMUVersion.allCases)
    func pausedAndResumed(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE, Situation.slow)
      try situation.startTransfer(migration)
      try situation.source.monitor.execute("stop")
      try migration.pump { $0.outcome.guest == .SWO_GUEST_PAUSED }
      try situation.source.monitor.execute("cont")
      // Once more, while the library looks elsewhere.
      try situation.source.monitor.execute("stop")
      try situation.source.monitor.execute("cont")
      try migration.pump { $0.outcome.guest == .SWO_GUEST_RUNNING }
      try situation.letTransferEnd()
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("paused while the library cannot see it", arguments: QEMUVersion.allCases)
    func unseen(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let monitor = try situation.monitorRelay(to: .source)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        Situation.slow(&$0)
        $0.sourceMonitor = monitor.address
      }
      try situation.startTransfer(migration)
      monitor.setRefusing(true)
      monitor.cut()
      try migration.pump(for: .milliseconds(100))
      try situation.source.monitor.execute("stop")
      monitor.setRefusing(false)
      try migration.pump { $0.outcome.guest == .SWO_GUEST_PAUSED }
      try situation.letTransferEnd()
      situation.expect(try migration.finish(), .completed(.SWO_GUEST_PAUSED))
      try situation.expectGuestArrivedStanding()
      try situation.expectGuestGoesOn(on: .target)
    }

    @Test("stopped on the target after it was granted", arguments: QEMUVersion.allCases)
    func stoppedAfterGrant(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try situation.holdLoad()
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      try situation.startTransfer(migration)
      try migration.pump(untilPhase: .SWO_PHASE_ACTIVATING)
      try migration.pump(for: .milliseconds(100))
      // Armed, and disarmed again by somebody who wants it to stand.
      try situation.target.monitor.execute("stop")
      situation.releaseLoad()
      situation.expect(try migration.finish(), .completed(.SWO_GUEST_PAUSED))
      try situation.expectGuestArrivedStanding()
      try situation.expectGuestGoesOn(on: .target)
    }

    @Test(
      "but a stop that the source gets in the blackout comes too late for QEMU",
      arguments: QEMUVersion.allCases)
    func stoppedInBlackout(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.heavyGuest)
      _ = try situation.useRelay()
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME, Situation.longBlackout)
      try situation.startBlackout(migration)
      // The guest stands; QEMU has sent that it ran, and takes this for done.
      let stop = try situation.source.monitor.send("stop")
      situation.releaseLoad()
      try migration.pumpUntilHandOverIsWanted()
      _ = try situation.source.monitor.waitForReply(to: stop, of: "stop")
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("stopped by a panic while RAM travels", arguments: QEMUVersion.allCases)
    func panic(version: QEMUVersion) throws {
      let situation = try Situation(version) {
        Situation.busyGuest(&$0)
        Situation.panickingGuest(&$0)
      }
      let migration = try situation.migration(.SWO_HAND_OVER_NONE, Situation.slow)
      try situation.startTransfer(migration)
      try situation.letTransferEnd(afterCommand: .panic)
      situation.expect(try migration.finish(), .completed(.SWO_GUEST_PAUSED))
      try situation.expectGuestArrivedStanding(state: "guest-panicked")
    }

    @Test("stopped by an I/O error while RAM travels", arguments: QEMUVersion.allCases)
    func inputOutputError(version: QEMUVersion) throws {
      let situation = try Situation(version) {
        Situation.busyGuest(&$0)
        Situation.guestOnFaultyDisk(&$0)
      }
      let migration = try situation.migration(.SWO_HAND_OVER_NONE, Situation.slow)
      try situation.startTransfer(migration)
      try situation.letTransferEnd(afterCommand: .writeFaultySector)
      situation.expect(try migration.finish(), .completed(.SWO_GUEST_PAUSED))
      try situation.expectGuestArrivedStanding(state: "io-error")
      // The target's way to the same disk has no fault: the write is made again.
      try situation.expectGuestGoesOn(on: .target)
    }
  }
}
