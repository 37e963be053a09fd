import CSwitchover
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A preflight refuses, and has changed nothing,")
  struct Preflight {
    /// The migration fails, the guest runs on at the source, and nothing is changed anywhere.
    private func expectRefusal(
      _ situation: Situation, _ failure: Outcome.Failure,
      sourceLocation: SourceLocation = #_sourceLocation,
      _ change: (inout MigrationUnderTest.Settings) -> Void = { _ in }
    ) throws {
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME, change)
      situation.expect(try migration.run(), .failed(failure), sourceLocation: sourceLocation)
      #expect(migration.handOversWanted == 0, sourceLocation: sourceLocation)
      situation.expectGuestRuns(on: .source, sourceLocation: sourceLocation)
      situation.expectNothingLeftOn(sourceLocation: sourceLocation)
    }

    private func target(_ text: String, command: String) -> Outcome.Failure {
      Outcome.Failure(.SWO_FAILURE_TARGET_UNFIT, .SWO_SIDE_TARGET, command: command, text: text)
    }

    private func source(_ text: String, command: String) -> Outcome.Failure {
      Outcome.Failure(.SWO_FAILURE_SOURCE_UNFIT, .SWO_SIDE_SOURCE, command: command, text: text)
    }

    @Test("a target that is a guest of its own", arguments: QEMUVersion.allCases)
    func runningTarget(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let other = try QEMUProcess(situation.source.options, name: "other", in: situation.directory)
      #expect(other.serial.waitForTicks(50, upTo: .seconds(60)))
      try expectRefusal(
        situation,
        target(
          "target is in run state 'running', not waiting for a migration; start it with -incoming",
          command: "query-status")
      ) { $0.targetMonitor = "unix:\(other.monitorPaths[0])" }
      // A wrong address must not have stopped anybody's guest.
      let ticks = other.serial.tickCount
      #expect(other.serial.waitForTicks(ticks + 50, upTo: .seconds(60)))
      #expect(!other.monitor.events.contains { $0.name == "STOP" })
    }

    @Test("source and target that are the same", arguments: QEMUVersion.allCases)
    func sameQEMU(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try expectRefusal(
        situation,
        target(
          "target is in run state 'running', not waiting for a migration; start it with -incoming",
          command: "query-status")
      ) { $0.targetMonitor = "unix:\(situation.source.monitorPaths[1])" }
    }

    @Test("a source whose guest was never started", arguments: QEMUVersion.allCases)
    func prelaunch(version: QEMUVersion) throws {
      let situation = try Situation(version) { $0.sourceStartsPaused = true }
      let migration = try situation.migration(.SWO_HAND_OVER_NONE)
      situation.expect(
        try migration.run(),
        .failed(
          source(
            "source is in run state 'prelaunch'; only running, paused and suspended guests migrate",
            command: "query-status"), .SWO_GUEST_UNKNOWN))
      situation.expectGuestStands()
      situation.expectNothingLeftOn()
    }

    @Test("a source that has been migrated already", arguments: QEMUVersion.allCases)
    func postmigrate(version: QEMUVersion) throws {
      let situation = try Situation(version)
      situation.expect(
        try situation.migration(.SWO_HAND_OVER_NONE).run(), .completed())
      let second = try situation.pair.withNewTarget(named: "second")
      let migration = try MigrationUnderTest(second)
      situation.expect(
        try migration.run(),
        .failed(
          source(
            "source is in run state 'postmigrate'; only running, paused and suspended guests migrate",
            command: "query-status"), .SWO_GUEST_PAUSED))
      situation.expectGuestRuns(on: .target)
    }

    @Test("postcopy on either side", arguments: QEMUVersion.allCases, Side.allCases)
    func postcopy(version: QEMUVersion, side: Side) throws {
      let situation = try Situation(version)
      let monitor = situation.pair.process(side).monitor
      try monitor.setCapabilities(["postcopy-ram": true])
      try situation.rememberSettings()
      let text = "\(side) has postcopy-ram on: the target would run before the source is done"
      try expectRefusal(
        situation,
        side == .source
          ? source(text, command: "query-migrate-capabilities")
          : target(text, command: "query-migrate-capabilities"))
      try monitor.setCapabilities(["postcopy-ram": false])
      try situation.pair.migrateByHand()
      situation.expectGuestRuns(on: .target)
    }

    @Test("a guest that something blocks", arguments: QEMUVersion.allCases)
    func blocker(version: QEMUVersion) throws {
      let directory = try TemporaryDirectory()
      let image = directory.file("image.vdi")
      let tool = try ChildProcess(
        version.imageTool, ["create", "-q", "-f", "vdi", image, "1M"],
        standardErrorPath: directory.file("stderr"))
      #expect(tool.waitForExit(upTo: .seconds(60)) == .exited(status: 0))
      let situation = try Situation(version) {
        $0.sourceArguments = [
          "-blockdev", "driver=vdi,node-name=vdi,file.driver=file,file.filename=\(image)",
        ]
      }
      try expectRefusal(
        situation,
        source(
          "source cannot be migrated: The vdi format used by node 'vdi' does not support live "
            + "migration", command: "query-migrate"))
    }

    @Test("machines of different types", arguments: QEMUVersion.allCases)
    func machineType(version: QEMUVersion) throws {
      let situation = try Situation(version) {
        $0.targetArguments = ["-machine", "pc-i440fx-7.1"]
      }
      try expectRefusal(
        situation,
        Outcome.Failure(
          .SWO_FAILURE_MISMATCH,
          text:
            "machine types differ: source 'pc-i440fx-7.2-machine', target 'pc-i440fx-7.1-machine'"
        ))
    }

    @Test("memories of different sizes", arguments: QEMUVersion.allCases)
    func memorySize(version: QEMUVersion) throws {
      let situation = try Situation(version) { $0.targetArguments = ["-m", "64"] }
      try expectRefusal(
        situation,
        Outcome.Failure(
          .SWO_FAILURE_MISMATCH,
          text: "memory sizes differ: source 134217728 bytes, target 67108864 bytes"))
    }

    @Test("a source that is being migrated by somebody else", arguments: QEMUVersion.allCases)
    func otherMigration(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let second = try situation.pair.withNewTarget(named: "second")
      try second.makeTargetListen()
      try second.source.monitor.execute(
        "migrate-set-parameters", ["max-bandwidth": .integer(4 << 20)])
      let count = second.source.monitor.events.count
      try second.source.monitor.execute("migrate", ["uri": .string(second.migrationAddress)])
      try second.source.monitor.waitForMigration("active", after: count)
      try situation.rememberSettings()
      try expectRefusal(
        situation,
        source(
          "source has a migration in status 'active' already", command: "query-migrate"))

      // The other one goes on as if nothing had been.
      try second.source.serial.send(.stopLoad)
      try second.source.monitor.execute(
        "migrate-set-parameters", ["max-bandwidth": .integer(1 << 40)])
      try second.source.monitor.waitForMigration("completed", after: count)
      try second.target.monitor.execute("cont")
      try second.ticks.assertSilent(.source)
      try second.ticks.assertNothingLost()
    }

    @Test("a target that receives another guest", arguments: QEMUVersion.allCases)
    func targetInUse(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      var options = situation.source.options
      options.guest.memory = nil
      let other = try QEMUProcess(options, name: "other", in: situation.directory)
      try situation.pair.makeTargetListen()
      try situation.source.monitor.execute(
        "migrate-set-parameters", ["max-bandwidth": .integer(4 << 20)])
      let count = situation.target.monitor.events.count
      try situation.source.monitor.execute(
        "migrate", ["uri": .string(situation.pair.migrationAddress)])
      try situation.target.monitor.waitForMigration("active", after: count)
      try situation.rememberSettings()
      try expectRefusal(
        situation,
        target("target has a migration in status 'active' already", command: "query-migrate")
      ) { $0.sourceMonitor = "unix:\(other.monitorPaths[0])" }
    }

    @Test("capabilities and parameters that QEMU does not have", arguments: QEMUVersion.allCases)
    func unknownSettings(version: QEMUVersion) throws {
      let situation = try Situation(version)
      try expectRefusal(
        situation,
        source(
          "source's QEMU has no migration capability 'teleport'",
          command: "query-migrate-capabilities")
      ) { $0.capabilities = ["teleport": true] }
      try expectRefusal(
        situation,
        source(
          "source's QEMU has no migration parameter 'warp-factor'",
          command: "query-migrate-parameters")
      ) { $0.parameters = ["warp-factor": "9"] }
      situation.expectSourceMigratesByHand()
    }

    @Test("several channels to a target that listens already", arguments: QEMUVersion.allCases)
    func multifdToListeningTarget(version: QEMUVersion) throws {
      let situation = try Situation(version) { $0.incoming = .unix }
      try expectRefusal(
        situation,
        target("multifd needs a target started with -incoming defer", command: "query-migrate")
      ) { $0.capabilities = ["multifd": true] }
    }

    @Test("a parameter's value that QEMU does not like", arguments: QEMUVersion.allCases)
    func badValue(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        $0.parameters = ["multifd-channels": "0"]
      }
      func refused(_ side: swo_side, _ name: String) -> Outcome {
        let text =
          "\(name) refused 'migrate-set-parameters': Parameter 'multifd_channels' expects a value "
          + "between 1 and 255"
        return .failed(
          Outcome.Failure(
            .SWO_FAILURE_COMMAND, side, command: "migrate-set-parameters",
            errorClass: "GenericError", text: text), nextStep: Outcome.endTarget)
      }
      // Both are told at once, and either may be the first to refuse.
      situation.expect(
        try migration.run(), refused(.SWO_SIDE_SOURCE, "source"),
        refused(.SWO_SIDE_TARGET, "target"))
      situation.expectSourceUnharmed()
    }
  }
}
