import CSwitchover
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A monitor that cannot be had")
  struct MonitorTrouble {
    @Test(
      "because another client holds it", arguments: QEMUVersion.allCases, Side.allCases)
    func busy(version: QEMUVersion, side: Side) throws {
      let situation = try Situation(version)
      let holder = try HarnessMonitor(.unix(situation.pair.process(side).monitorPaths[0]))
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) { $0.connectLimit = 400 }
      let failure = Outcome.Failure(
        .SWO_FAILURE_MONITOR_BUSY, side == .source ? .SWO_SIDE_SOURCE : .SWO_SIDE_TARGET,
        text: "\(side)'s monitor busy: another client holds it")
      try migration.start()
      let began = MonotonicTime.now
      situation.expect(try migration.finish(), .failed(failure, .SWO_GUEST_UNKNOWN))
      #expect(.now - began >= .milliseconds(390))
      // Its holder was not disturbed.
      #expect(try holder.runState() == (side == .source ? "running" : "inmigrate"))
      holder.close()
      situation.expectSourceUnharmed()
    }

    @Test("until its holder goes", arguments: QEMUVersion.allCases)
    func busyForAWhile(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let holder = try HarnessMonitor(.unix(situation.source.monitorPaths[0]))
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      try migration.start()
      try migration.pump(for: .milliseconds(300))
      #expect(migration.phase == .SWO_PHASE_CONNECTING)
      holder.close()
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
    }

    @Test("because nobody listens", arguments: Side.allCases)
    func missing(side: Side) throws {
      let situation = try Situation(.system72)
      let path = situation.directory.file("nobody.sock")
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        if side == .source {
          $0.sourceMonitor = path
        } else {
          $0.targetMonitor = path
        }
      }
      let failure = Outcome.Failure(
        .SWO_FAILURE_MONITOR_UNREACHABLE,
        side == .source ? .SWO_SIDE_SOURCE : .SWO_SIDE_TARGET,
        text: "\(side)'s monitor cannot be reached: no such socket")
      let outcome = try migration.run()
      // What the other side says may be known by then.
      situation.expect(outcome, .failed(failure, .SWO_GUEST_UNKNOWN), .failed(failure))
      situation.expectSourceUnharmed()
    }

    @Test("because a person's monitor answers", arguments: QEMUVersion.allCases)
    func humanMonitor(version: QEMUVersion) throws {
      let directory = try TemporaryDirectory()
      let path = directory.file("human.sock")
      let situation = try Situation(version) {
        $0.targetArguments = [
          "-chardev", "socket,id=human,path=\(path),server=on,wait=off",
          "-mon", "chardev=human,mode=readline",
        ]
      }
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) { $0.targetMonitor = path }
      let outcome = try migration.run()
      #expect(outcome.end == .SWO_END_FAILED)
      #expect(outcome.owner == .SWO_OWNER_SOURCE)
      #expect(outcome.failure?.code == .SWO_FAILURE_PROTOCOL)
      #expect(outcome.failure?.side == .SWO_SIDE_TARGET)
      #expect(
        outcome.failure?.text.hasPrefix("target's monitor does not speak QMP: ") == true,
        "\(outcome)")
      situation.expectSourceUnharmed()
    }

    @Test("because it never greets")
    func silent() throws {
      let situation = try Situation(.system72)
      // It takes connections, and never greets.
      let silent = try Relay(
        listeningOn: .unix(situation.directory.file("silent.sock")),
        forwardingTo: .unix(situation.target.monitorPaths[1]))
      silent.setStalled(true)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        $0.targetMonitor = silent.address
        $0.connectLimit = 300
      }
      let failure = Outcome.Failure(
        .SWO_FAILURE_MONITOR_BUSY, .SWO_SIDE_TARGET,
        text: "target's monitor busy: another client holds it")
      situation.expect(try migration.run(), .failed(failure, .SWO_GUEST_UNKNOWN))
      situation.expectSourceUnharmed()
    }

    @Test("is no obstacle over TCP")
    func tcp() throws {
      let situation = try Situation(.backports100)
      let relays = try Side.allCases.map {
        try Relay(
          listeningOn: .tcp(0), forwardingTo: .unix(situation.pair.process($0).monitorPaths[0]))
      }
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        $0.sourceMonitor = relays[0].address
        $0.targetMonitor = relays[1].address
        $0.sourceEnd = .SWO_SOURCE_QUIT
      }
      situation.expect(try migration.run(), .completed(nextStep: ""))
      #expect(migration.warnings == [])
      situation.expectGuestRuns(on: .target)
      situation.expectExit(of: .source, .exited(status: 0))
    }
  }

  @Suite("A monitor connection that is lost and comes back")
  struct MonitorLost {
    /// A migration whose monitors are reached through relays.
    private func migration(
      _ situation: Situation, _ handOver: swo_hand_over,
      _ change: (inout MigrationUnderTest.Settings) -> Void = { _ in }
    ) throws -> (migration: MigrationUnderTest, relays: [Side: Relay]) {
      let relays: [Side: Relay] = [
        .source: try situation.monitorRelay(to: .source),
        .target: try situation.monitorRelay(to: .target),
      ]
      let migration = try situation.migration(handOver) {
        $0.sourceMonitor = relays[.source]?.address ?? ""
        $0.targetMonitor = relays[.target]?.address ?? ""
        change(&$0)
      }
      return (migration, relays)
    }

    private func expectCompleted(
      _ situation: Situation, _ migration: MigrationUnderTest,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      situation.expect(try migration.finish(), .completed(), sourceLocation: sourceLocation)
      situation.expectGuestRuns(on: .target, sourceLocation: sourceLocation)
      situation.expectNothingLeftOn(sourceLocation: sourceLocation)
    }

    /// The target has the guest, and nobody resumes it unasked (I8).
    private func expectLeftStanding(
      _ situation: Situation, _ migration: MigrationUnderTest,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      situation.expect(
        try migration.finish(),
        Outcome(
          end: .SWO_END_FAILED, owner: .SWO_OWNER_TARGET, guest: .SWO_GUEST_PAUSED,
          failure: .unknownWhetherItRan,
          nextStep: "if the guest was running, 'cont' on the target; then end the source's QEMU"),
        sourceLocation: sourceLocation)
      situation.expectGuestStands(sourceLocation: sourceLocation)
      situation.expectNothingLeftOn(sourceLocation: sourceLocation)
      try situation.expectGuestGoesOn(on: .target, sourceLocation: sourceLocation)
    }

    @Test(
      "before RAM travels", arguments: QEMUVersion.allCases,
      [swo_phase.SWO_PHASE_PREFLIGHT, .SWO_PHASE_PREPARING])
    func beforeTransfer(version: QEMUVersion, phase: swo_phase) throws {
      for side in Side.allCases {
        let situation = try Situation(version)
        let (migration, relays) = try migration(situation, .SWO_HAND_OVER_NONE)
        try migration.start()
        try migration.pump(untilPhase: phase)
        relays[side]?.cut()
        try expectCompleted(situation, migration)
      }
    }

    @Test("while it greets", arguments: QEMUVersion.allCases, Side.allCases)
    func connecting(version: QEMUVersion, side: Side) throws {
      let situation = try Situation(version)
      let (migration, relays) = try migration(situation, .SWO_HAND_OVER_NONE)
      // One side is heard and lost again before the other is there.
      relays[side.other]?.setRefusing(true)
      try migration.start()
      try migration.pump(for: .milliseconds(100))
      #expect(migration.phase == .SWO_PHASE_CONNECTING)
      relays[side]?.cut()
      try migration.pump(for: .milliseconds(100))
      relays[side.other]?.setRefusing(false)
      try expectCompleted(situation, migration)
    }

    @Test("while RAM travels", arguments: QEMUVersion.allCases, Side.allCases)
    func inTransfer(version: QEMUVersion, side: Side) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let (migration, relays) = try migration(
        situation, .SWO_HAND_OVER_NONE, Situation.slow)
      try situation.startTransfer(migration)
      for _ in 0..<2 {
        relays[side]?.cut()
        try migration.pump(for: .milliseconds(150))
      }
      #expect(migration.phase == .SWO_PHASE_TRANSFERRING)
      try situation.letTransferEnd()
      try expectCompleted(situation, migration)
    }

    @Test("while RAM travels, until all is over", arguments: QEMUVersion.allCases, Side.allCases)
    func throughTheEnd(version: QEMUVersion, side: Side) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let (migration, relays) = try migration(
        situation, .SWO_HAND_OVER_NONE, Situation.slow)
      try situation.startTransfer(migration)
      relays[side]?.setRefusing(true)
      relays[side]?.cut()
      try migration.pump(for: .milliseconds(100))
      try situation.letTransferEnd()
      try situation.source.monitor.waitForRunState("postmigrate")
      try migration.pump(for: .milliseconds(100))
      // Neither side is granted what the library cannot judge, or cannot reach.
      situation.expectGuestStands()
      relays[side]?.setRefusing(false)
      guard side == .source else { return try expectCompleted(situation, migration) }
      // Nobody can tell any more whether the guest ran at its STOP, or had been paused before.
      try expectLeftStanding(situation, migration)
    }

    @Test("in the blackout", arguments: QEMUVersion.allCases, Side.allCases)
    func inBlackout(version: QEMUVersion, side: Side) throws {
      let situation = try Situation(version, Situation.heavyGuest)
      _ = try situation.useRelay()
      let (migration, relays) = try migration(
        situation, .SWO_HAND_OVER_NONE, Situation.longBlackout)
      try situation.startBlackout(migration)
      relays[side]?.cut()
      try migration.pump(for: .milliseconds(150))
      situation.releaseLoad()
      let isDone = try migration.finish().end == .SWO_END_COMPLETED
      guard side == .source, !isDone else { return try expectCompleted(situation, migration) }
      // The STOP was heard, and its reason was not, unless QEMU was quicker to tell it than the cut.
      try expectLeftStanding(situation, migration)
    }

    @Test("while the host program hands over", arguments: QEMUVersion.allCases, Side.allCases)
    func inHandOver(version: QEMUVersion, side: Side) throws {
      let situation = try Situation(version)
      let (migration, relays) = try migration(situation, .SWO_HAND_OVER_BEFORE_RESUME)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      relays[side]?.cut()
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      try expectCompleted(situation, migration)
    }

    @Test("after the grant, before the target has loaded", arguments: QEMUVersion.allCases)
    func afterGrant(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try situation.holdLoad()
      let (migration, relays) = try migration(situation, .SWO_HAND_OVER_NONE)
      try situation.startTransfer(migration)
      try migration.pump(untilPhase: .SWO_PHASE_ACTIVATING)
      relays[.target]?.cut()
      try migration.pump(for: .milliseconds(200))
      situation.releaseLoad()
      try expectCompleted(situation, migration)
    }

    @Test("after the grant, back when the guest runs", arguments: QEMUVersion.allCases)
    func throughResume(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try situation.holdLoad()
      let (migration, relays) = try migration(situation, .SWO_HAND_OVER_NONE)
      try situation.startTransfer(migration)
      try migration.pump(untilPhase: .SWO_PHASE_ACTIVATING)
      try migration.pump(for: .milliseconds(100))
      relays[.target]?.setRefusing(true)
      relays[.target]?.cut()
      situation.releaseLoad()
      try situation.target.monitor.waitForEvent("RESUME")
      try migration.pump(for: .milliseconds(100))
      #expect(migration.outcome.owner == .SWO_OWNER_UNKNOWN)
      relays[.target]?.setRefusing(false)
      try expectCompleted(situation, migration)
    }

    @Test("while things are put in order", arguments: QEMUVersion.allCases, Side.allCases)
    func inFinishing(version: QEMUVersion, side: Side) throws {
      let situation = try Situation(version)
      let (migration, relays) = try migration(situation, .SWO_HAND_OVER_NONE) {
        $0.sourceEnd = .SWO_SOURCE_QUIT
      }
      try migration.start()
      try migration.pump(untilPhase: .SWO_PHASE_FINISHING)
      relays[side]?.cut()
      situation.expect(try migration.finish(), .completed(nextStep: ""))
      situation.expectExit(of: .source, .exited(status: 0))
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("while a cancel is on its way", arguments: QEMUVersion.allCases, Side.allCases)
    func inUndoing(version: QEMUVersion, side: Side) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let (migration, relays) = try migration(situation, .SWO_HAND_OVER_NONE, Situation.slow)
      try situation.startTransfer(migration)
      #expect(migration.cancel().code == .SWO_OK)
      relays[side]?.cut()
      situation.expect(
        try migration.finish(), .cancelled(), .cancelled(nextStep: Outcome.endTarget))
      situation.expectSourceUnharmed()
    }

    @Test("while ownership follows the guest", arguments: QEMUVersion.allCases, Side.allCases)
    func afterResume(version: QEMUVersion, side: Side) throws {
      let situation = try Situation(version)
      let (migration, relays) = try migration(situation, .SWO_HAND_OVER_AFTER_RESUME) {
        $0.sourceEnd = .SWO_SOURCE_QUIT
      }
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      relays[side]?.cut()
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed(nextStep: ""))
      situation.expectExit(of: .source, .exited(status: 0))
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }
  }

  @Suite("A monitor connection that is lost for good")
  struct MonitorLostForGood {
    private func lose(_ relay: Relay) {
      relay.setRefusing(true)
      relay.cut()
    }

    private func quick(_ settings: inout MigrationUnderTest.Settings) {
      settings.reconnectLimit = 300
    }

    private static let lost = "the connection ended"

    @Test(
      "while RAM travels, the source's: nobody can tell who owns", arguments: QEMUVersion.allCases)
    func sourceInTransfer(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let relay = try situation.monitorRelay(to: .source)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        Situation.slow(&$0)
        quick(&$0)
        $0.sourceMonitor = relay.address
      }
      try situation.startTransfer(migration)
      lose(relay)
      situation.expect(
        try migration.finish(),
        Outcome(
          end: .SWO_END_UNKNOWN, owner: .SWO_OWNER_UNKNOWN, guest: .SWO_GUEST_UNKNOWN,
          failure: Outcome.Failure(
            .SWO_FAILURE_MONITOR_LOST, .SWO_SIDE_SOURCE,
            text: "source's monitor cannot be reached: \(Self.lost)"),
          nextStep: "reach the source's monitor, and ask query-status: switchover recover"))
      // QEMU goes on by itself, and the target, disarmed, does not run.
      situation.expectGuestRuns(on: .source)
      try situation.letTransferEnd()
      try situation.source.monitor.waitForRunState("postmigrate")
      situation.expectGuestStands()
      try situation.expectGuestGoesOn(on: .target)
    }

    @Test("while RAM travels, the target's", arguments: QEMUVersion.allCases)
    func targetInTransfer(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let relay = try situation.monitorRelay(to: .target)
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME) {
        Situation.slow(&$0)
        quick(&$0)
        $0.targetMonitor = relay.address
      }
      try situation.startTransfer(migration)
      lose(relay)
      let failure = Outcome.Failure(
        .SWO_FAILURE_MONITOR_LOST, .SWO_SIDE_TARGET,
        text: "target's monitor cannot be reached: \(Self.lost)")
      situation.expect(try migration.finish(), .failed(failure, nextStep: Outcome.endTarget))
      situation.expectExit(of: .target, .exited(status: 1))
      situation.expectSourceUnharmed()
    }

    @Test("after the grant", arguments: QEMUVersion.allCases)
    func afterGrant(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try situation.holdLoad()
      let relay = try situation.monitorRelay(to: .target)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        quick(&$0)
        $0.targetMonitor = relay.address
      }
      try situation.startTransfer(migration)
      try migration.pump(untilPhase: .SWO_PHASE_ACTIVATING)
      try migration.pump(for: .milliseconds(100))
      lose(relay)
      situation.expect(
        try migration.finish(),
        Outcome(
          end: .SWO_END_UNKNOWN, owner: .SWO_OWNER_UNKNOWN, guest: .SWO_GUEST_UNKNOWN,
          failure: Outcome.Failure(
            .SWO_FAILURE_OUTCOME_UNKNOWN, .SWO_SIDE_TARGET, command: "cont",
            text: "target's monitor did not come back; whether 'cont' was carried out is unknown"),
          nextStep: "prove the target's QEMU dead or fence it before the source is resumed: "
            + "switchover recover"))
      situation.expectGuestStands()
      situation.expectNothingLeftOn(except: .target)
      // It was: had the source been resumed, both would run.
      situation.releaseLoad()
      situation.expectGuestRuns(on: .target)
    }

    @Test("while the host program hands over", arguments: QEMUVersion.allCases)
    func inHandOver(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let relay = try situation.monitorRelay(to: .target)
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME) {
        quick(&$0)
        $0.targetMonitor = relay.address
      }
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      lose(relay)
      try migration.pump(for: .milliseconds(500))
      #expect(!migration.isFinished)
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      try migration.pump { !$0.warnings.isEmpty || $0.isFinished }
      #expect(
        migration.warnings == [
          "target's monitor did not come back; it was not granted; the guest stands on the source and "
            + "may be resumed there once ownership has been moved back"
        ])
      situation.expectGuestStands()
      try migration.handedBack()
      let failure = Outcome.Failure(
        .SWO_FAILURE_MONITOR_LOST, .SWO_SIDE_TARGET,
        text: "target's monitor did not come back; it was not granted")
      situation.expect(try migration.finish(), .failed(failure, nextStep: Outcome.endTarget))
      situation.expectGuestRuns(on: .source)
      situation.expectNothingLeftOn(except: .target)
      // Loaded and disarmed, it stands for as long as nobody resumes it.
      #expect(try situation.target.monitor.runState() == "paused")
      situation.expectSourceMigratesByHand()
    }

    @Test("the source's, after the guest runs elsewhere", arguments: QEMUVersion.allCases)
    func sourceAtTheEnd(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let relay = try situation.monitorRelay(to: .source)
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME) {
        quick(&$0)
        $0.sourceMonitor = relay.address
        $0.sourceEnd = .SWO_SOURCE_QUIT
      }
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      lose(relay)
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      // It could not be told to quit, and whoever asked for that must know.
      situation.expect(try migration.finish(), .completed(nextStep: Outcome.endSource))
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn(except: .source)
      #expect(try situation.source.monitor.runState() == "postmigrate")
    }
  }
}
