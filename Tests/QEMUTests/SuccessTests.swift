import CSwitchover
import DemoGuest
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A migration that nothing disturbs")
  struct Undisturbed {
    @Test("moves the guest at once, and ends the source", arguments: QEMUVersion.allCases)
    func noHandOver(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        $0.sourceEnd = .SWO_SOURCE_QUIT
      }
      situation.expect(try migration.run(), .completed(nextStep: ""))
      #expect(migration.handOversWanted == 0)
      #expect(migration.warnings == [])
      #expect(migration.summary.hasPrefix("switchover: guest: completed; blackout "))
      #expect(migration.summary.hasSuffix(" ms; owner: target, guest running"))
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
      situation.expectExit(of: .source, .exited(status: 0))
    }

    @Test("asks for the hand-over while the guest stands", arguments: QEMUVersion.allCases)
    func beforeResume(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      #expect(migration.phase == .SWO_PHASE_HANDING_OVER)
      #expect(migration.outcome.owner == .SWO_OWNER_NOBODY)
      #expect(migration.outcome.guest == .SWO_GUEST_PAUSED)
      // However slow the host program is, the guest waits for its answer.
      situation.expectGuestStands()
      try migration.pump(for: .milliseconds(300))
      situation.expectGuestStands()
      #expect(migration.handOversWanted == 1)
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed())
      #expect(migration.ledger.contains { $0.name == "hand-over" && $0.length >= 300_000 })
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
      #expect(try situation.source.monitor.runState() == "postmigrate")
    }

    @Test(
      "asks for the hand-over again and again after the guest runs", arguments: QEMUVersion.allCases
    )
    func afterResume(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_AFTER_RESUME) {
        $0.sourceEnd = .SWO_SOURCE_QUIT
      }
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      #expect(migration.outcome.owner == .SWO_OWNER_TARGET)
      #expect(migration.outcome.guest == .SWO_GUEST_RUNNING)
      situation.expectGuestRuns(on: .target)
      try migration.handedOver(.SWO_HAND_OVER_FAILED)
      try migration.pumpUntilHandOverIsWanted(times: 2)
      #expect(
        migration.warnings == ["the hand-over failed; the guest runs on the target: asking again"])
      #expect(situation.source.exit == nil)
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed(nextStep: ""))
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
      situation.expectExit(of: .source, .exited(status: 0))
    }

    @Test("lets the host program resume the target", arguments: QEMUVersion.allCases)
    func external(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_EXTERNAL)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      #expect(migration.outcome.owner == .SWO_OWNER_NOBODY)
      #expect(migration.outcome.guest == .SWO_GUEST_PAUSED)
      situation.expectGuestStands()
      do {
        // On the very monitor that the library has used.
        let monitor = try HarnessMonitor(.unix(situation.target.monitorPaths[0]))
        #expect(try monitor.runState() == "paused")
        try migration.pump(for: .milliseconds(700))
        #expect(!migration.isFinished)
        try monitor.execute("cont")
        monitor.close()
      }
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test(
      "takes the host program's word that the target is resumed", arguments: QEMUVersion.allCases)
    func externalWithAnswer(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_EXTERNAL)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      try situation.target.monitor.execute("cont")
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test(
      "goes to a target that listens already, or is told to listen",
      arguments: QEMUVersion.allCases, [QEMUPair.Incoming.unix, .deferred])
    func incoming(version: QEMUVersion, incoming: QEMUPair.Incoming) throws {
      let situation = try Situation(version) {
        $0.incoming = incoming
        Situation.busyGuest(&$0)
      }
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      situation.expect(try migration.run(), .completed())
      #expect(migration.progressEvents > 0)
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("goes over several channels", arguments: QEMUVersion.allCases)
    func multifd(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME) {
        $0.capabilities = ["multifd": true]
        $0.parameters = ["multifd-channels": "3"]
      }
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      let ram = try situation.source.monitor.execute("query-migrate")["ram"]
      #expect((ram?["multifd-bytes"]?.integer ?? 0) > 0)
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("disarms a target that would start by itself", arguments: QEMUVersion.allCases)
    func autoStart(version: QEMUVersion) throws {
      let situation = try Situation(version) { $0.targetStartsPaused = false }
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME)
      try migration.start()
      try migration.pumpUntilHandOverIsWanted()
      situation.expectGuestStands()
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("goes from one version to another, and warns on the way back")
    func betweenVersions() throws {
      let there = try Situation(.system72) { $0.targetVersion = .backports100 }
      let first = try there.migration(.SWO_HAND_OVER_NONE)
      there.expect(try first.run(), .completed())
      #expect(first.warnings == [])
      there.expectGuestRuns(on: .target)
      there.expectNothingLeftOn()

      let back = try Situation(.backports100) { $0.targetVersion = .system72 }
      let second = try back.migration(.SWO_HAND_OVER_NONE)
      back.expect(try second.run(), .completed())
      let (source, target) = (try back.source.release, try back.target.release)
      #expect(
        second.warnings == [
          "target runs QEMU \(target), older than the source's \(source): it must know the machine "
            + "type and every device of the guest"
        ])
      back.expectGuestRuns(on: .target)
      back.expectNothingLeftOn()
    }

    @Test("accounts for every microsecond of the blackout", arguments: QEMUVersion.allCases)
    func ledger(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      situation.expect(try migration.run(), .completed())
      let stop = try situation.source.monitor.waitForEvent("STOP")
      let resume = try situation.target.monitor.waitForEvent("RESUME")
      let blackout = resume.timestampMicroseconds - stop.timestampMicroseconds
      #expect(migration.number(.SWO_NUMBER_BLACKOUT_US) == UInt64(blackout))
      #expect(migration.number(.SWO_NUMBER_BLACKOUT_ERROR_US) == 0)
      #expect(migration.ledger.map(\.name).first == "last RAM and device state")
      #expect(migration.ledger.map(\.name).last == "activation")
      var end: Int64 = 0
      for part in migration.ledger {
        #expect(part.start == end)
        #expect(part.length >= 0)
        end = part.start + part.length
      }
      #expect(end == blackout)
      #expect(migration.number(.SWO_NUMBER_QEMU_DOWNTIME_MS) != nil)
      #expect(migration.number(.SWO_NUMBER_TOTAL_TIME_MS) != nil)
      #expect(migration.number(.SWO_NUMBER_RAM_TOTAL_BYTES) ?? 0 > 128 << 20)
    }
  }
}

extension QEMUProcess {
  /// The version in full, as a text.
  var release: String {
    get throws {
      let version = try monitor.execute("query-version")["qemu"]
      let numbers = ["major", "minor", "micro"].map { version?[$0]?.integer ?? -1 }
      return numbers.map(String.init).joined(separator: ".")
    }
  }
}
