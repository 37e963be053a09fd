import CSwitchover
import DemoGuest
import Glibc
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A way by ssh that is lost")
  struct TunnelLosses {
    @Test("while memory travels leaves the guest on the source", arguments: carriers)
    func inTransfer(carrier: swo_ssh_carrier) throws {
      let situation = try TunnelSituation(.system72, Situation.busyGuest)
      let migration = try situation.migration(carrier, .SWO_HAND_OVER_NONE, Situation.slow)
      try startTransfer(situation, migration)
      situation.relay.cut()
      try expectSourceKeepsGuest(situation, migration)
    }

    @Test("with ssh killed leaves the guest on the source")
    func programKilled() throws {
      let situation = try TunnelSituation(.system72, Situation.busyGuest)
      let migration = try situation.migration(
        .SWO_SSH_SYSTEM, .SWO_HAND_OVER_NONE, Situation.slow)
      try startTransfer(situation, migration)
      let children = situation.sshChildren()
      #expect(children.count == 1)
      for child in children { kill(child, SIGKILL) }
      try expectSourceKeepsGuest(situation, migration)
    }

    @Test("while a disk is copied leaves the guest on the source", arguments: carriers)
    func inMirroring(carrier: swo_ssh_carrier) throws {
      let situation = try TunnelSituation {
        $0.common.guest.disks = GuestImage.DiskLoad(sectors: 500)
        var disk = QEMUPair.DiskOptions()
        disk.sectors = 64 << 11
        $0.disks = [disk]
      }
      // Slow enough that the copy has not ended when it is cut.
      situation.relay.change(.forward) { $0.bytesPerSecond = 4 << 20 }
      let migration = try situation.migration(carrier) {
        $0.nbd = "unix:\(situation.base.directory.file("nbd.sock"))"
        $0.disks = [QEMUProcess.nodeName(disk: 0)]
      }
      try migration.start()
      try migration.pump { $0.phase == .SWO_PHASE_MIRRORING || $0.isFinished }
      // Asking QEMU here would hold up what it waits for: the library carries its disk.
      try migration.pump { _ in situation.relay.passedBytes(.forward) > 8 << 20 }
      #expect(migration.phase == .SWO_PHASE_MIRRORING)
      situation.relay.change(.forward) { $0.bytesPerSecond = nil }
      situation.relay.cut()
      try expectSourceKeepsGuest(situation, migration)
      #expect(try situation.base.source.monitor.execute("query-block-jobs").array == [])
    }

    @Test(
      "while ownership is handed over comes back, and the target gets the guest",
      arguments: carriers)
    func inHandOver(carrier: swo_ssh_carrier) throws {
      let situation = try TunnelSituation()
      let migration = try situation.migration(carrier, .SWO_HAND_OVER_BEFORE_RESUME)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      situation.relay.cut()
      try migration.pump { !$0.warnings.isEmpty || $0.isFinished }
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.base.expect(try migration.finish(), .completed())
      situation.base.expectGuestRuns(on: .target)
      situation.expectNothingLeft(of: migration)
    }

    /// Nothing comes back any more, so that nobody knows whether the grant arrived.
    private func grantInto(
      _ situation: TunnelSituation, _ migration: MigrationUnderTest
    ) throws {
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      situation.relay.change(.backward) { $0.isStalled = true }
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      try migration.pump(untilPhase: .SWO_PHASE_ACTIVATING)
      // It did arrive.
      let target = situation.base.target.monitor
      try migration.pump { _ in try target.runState() == "running" }
      #expect(!migration.isFinished)
    }

    @Test("after the grant leaves the owner unknown until it is fenced", arguments: carriers)
    func afterGrant(carrier: swo_ssh_carrier) throws {
      let situation = try TunnelSituation()
      let migration = try situation.migration(carrier, .SWO_HAND_OVER_BEFORE_RESUME) {
        $0.reconnectLimit = 2000
      }
      try grantInto(situation, migration)
      situation.relay.setRefusing(true)
      situation.relay.cut()
      try migration.pump {
        $0.isFinished || $0.warnings.contains { $0.contains("did not come back") }
      }
      #expect(migration.outcome.owner == .SWO_OWNER_UNKNOWN)
      #expect(!migration.isFinished)
      situation.base.expectGuestRuns(on: .target)
      situation.base.target.close()
      try migration.fenced(.SWO_SIDE_TARGET)
      try migration.handedBack()
      let outcome = try migration.finish()
      #expect(outcome.end == .SWO_END_FAILED, "\(outcome)")
      #expect(
        outcome.owner == .SWO_OWNER_SOURCE && outcome.guest == .SWO_GUEST_RUNNING, "\(outcome)")
      #expect(outcome.failure?.code == .SWO_FAILURE_OUTCOME_UNKNOWN)
      situation.expectNothingLeft(of: migration)
    }

    @Test("after the grant is settled where it comes back", arguments: carriers)
    func afterGrantReconnected(carrier: swo_ssh_carrier) throws {
      let situation = try TunnelSituation()
      let migration = try situation.migration(carrier, .SWO_HAND_OVER_BEFORE_RESUME)
      try grantInto(situation, migration)
      situation.relay.cut()
      situation.relay.change(.backward) { $0.isStalled = false }
      situation.base.expect(try migration.finish(), .completed())
      situation.base.expectGuestRuns(on: .target)
      situation.expectNothingLeft(of: migration)
    }

    @Test("by a server that stalls ends at the deadline", arguments: carriers)
    func stalled(carrier: swo_ssh_carrier) throws {
      let situation = try TunnelSituation(.system72, Situation.busyGuest)
      let migration = try situation.migration(carrier) {
        Situation.slow(&$0)
        $0.transferDeadline = 5000
        $0.reconnectLimit = 2000
      }
      try startTransfer(situation, migration)
      situation.relay.setStalled(true)
      let outcome = try migration.finish(upTo: .seconds(120))
      #expect(
        outcome.owner == .SWO_OWNER_SOURCE && outcome.guest == .SWO_GUEST_RUNNING, "\(outcome)")
      situation.relay.setStalled(false)
      situation.relay.cut()
      situation.base.expectGuestRuns(on: .source)
      situation.expectNothingLeft(of: migration)
    }

    @Test("by its user's end leaves nothing behind", arguments: carriers)
    func freed(carrier: swo_ssh_carrier) throws {
      let situation = try TunnelSituation(.system72, Situation.busyGuest)
      var directories: [String] = []
      do {
        let migration = try situation.migration(carrier, .SWO_HAND_OVER_NONE, Situation.slow)
        try startTransfer(situation, migration)
        directories = migration.tunnelDirectories
      }
      #expect(!directories.isEmpty)
      for directory in directories { #expect(access(directory, F_OK) != 0) }
      #expect(situation.sshChildren() == [])
      // What carried the memory is gone.
      let source = situation.base.source.monitor
      let deadline = MonotonicTime.now + .seconds(60)
      while try source.migrationStatus() != "failed", .now < deadline {
        _ = try? source.waitForEvent("MIGRATION", upTo: .milliseconds(100))
      }
      #expect(try source.migrationStatus() == "failed")
      situation.base.expectGuestRuns(on: .source)
    }

    /// Starts it and returns when memory has come to the target.
    private func startTransfer(
      _ situation: TunnelSituation, _ migration: MigrationUnderTest
    ) throws {
      try situation.base.startTransfer(migration)
      let carried = situation.relay.passedBytes(.forward)
      try migration.pump {
        $0.isFinished || situation.relay.passedBytes(.forward) > carried + (4 << 20)
      }
      try #require(migration.phase == .SWO_PHASE_TRANSFERRING)
    }

    private func expectSourceKeepsGuest(
      _ situation: TunnelSituation, _ migration: MigrationUnderTest
    ) throws {
      let outcome = try migration.finish(upTo: .seconds(120))
      #expect(outcome.end == .SWO_END_FAILED, "\(outcome)")
      #expect(
        outcome.owner == .SWO_OWNER_SOURCE && outcome.guest == .SWO_GUEST_RUNNING, "\(outcome)")
      situation.base.expectGuestRuns(on: .source)
      // The target's end is told as the next step; it was not there to be put in order.
      situation.base.expectNothingLeftOn(except: .target)
      situation.expectNothingLeft(of: migration)
    }
  }
}
