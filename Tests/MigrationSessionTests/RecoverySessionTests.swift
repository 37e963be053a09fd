import MigrationEngine
import MigrationSession
import QMP
import Testing

/// Recoveries told in QMP: what both QEMUs say, and what they are told.
struct RecoverySessionTests {
  typealias Pair = ScriptedPair<RecoverySession>

  static func record(
    _ handOver: HandOverMode = .none, sourceEnd: SourceEnd = .keep, runState: String = "running",
    mirrors: [JournalRecord.Mirror] = []
  ) -> JournalRecord {
    JournalRecord(
      name: "vm 100",
      source: JournalRecord.QEMU(
        monitor: "unix:/source.qmp",
        capabilities: [CapabilitySetting(name: "events", on: false)],
        parameters: [ParameterSetting(name: "max-bandwidth", value: .integer(134_217_728))]),
      target: JournalRecord.QEMU(
        monitor: "unix:/target.qmp",
        capabilities: [CapabilitySetting(name: "late-block-activate", on: false)], parameters: []),
      handOver: handOver, sourceEnd: sourceEnd, runState: runState, mirrors: mirrors)
  }

  static func pair(
    _ record: JournalRecord?, change: (inout RecoveryConfiguration) -> Void = { _ in }
  ) -> Pair {
    var configuration = RecoveryConfiguration()
    configuration.record = record
    configuration.sourceMonitor = .unix(path: "/source.qmp")
    configuration.targetMonitor = .unix(path: "/target.qmp")
    change(&configuration)
    var pair = Pair(RecoverySession(configuration: configuration))
    pair.source.runState = "postmigrate"
    pair.source.status = "completed"
    pair.target.runState = "paused"
    pair.target.status = "completed"
    pair.target.reactions["cont"] = { $0.target.runState = "running" }
    pair.source.reactions["cont"] = { $0.source.runState = "running" }
    return pair
  }

  private func conclusion(of pair: Pair) throws -> RecoveryConclusion {
    try #require(pair.session.conclusion)
  }

  private func outcome(of pair: Pair) throws -> JournalRecord.Outcome {
    #expect(pair.persisted.count == 1)
    let bytes = try #require(pair.persisted.last)
    return try #require(try JournalRecord.decode(bytes).outcome)
  }

  // MARK: - Forwards

  @Test("the loaded target of a completed source is resumed", arguments: [1, 7, Int.max])
  func theLoadedTargetIsResumed(pieceSize: Int) throws {
    var it = Self.pair(Self.record(.none))
    it.pieceSize = pieceSize
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.owner == .target && conclusion.guest == .running)
    #expect(conclusion.action == .resumeTarget)
    #expect(conclusion.toDo.contains("must not be resumed"))
    #expect(it.target.commands.first == "query-status")
    #expect(it.target.commands.count { $0 == "cont" } == 1)
    #expect(!it.target.commands.contains("stop"))
    #expect(!it.source.commands.contains("cont") && !it.source.commands.contains("quit"))
    // What the migration had changed is as it was.
    #expect(it.source.commands.contains("migrate-set-capabilities"))
    #expect(
      it.source.arguments["migrate-set-parameters"]?["max-bandwidth"] == .integer(134_217_728))
    #expect(it.target.commands.contains("migrate-set-capabilities"))
    let outcome = try outcome(of: it)
    #expect(outcome.owner == .target && outcome.end == .completed)
  }

  @Test func theSourceIsEndedWhereTheMigrationWasToEndIt() throws {
    var it = Self.pair(Self.record(.none, sourceEnd: .quit))
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.owner == .target && conclusion.action == .quitSource)
    #expect(it.source.commands.last == "quit")
    #expect(conclusion.deeds.contains("ended the source's QEMU"))
  }

  @Test func theNBDServerStopsAheadOfTheGrant() throws {
    let mirror = JournalRecord.Mirror(
      device: "d0", jobID: "swo-mirror0", node: "swo-nbd0", isOurs: true)
    var it = Self.pair(Self.record(.none, mirrors: [mirror]))
    it.source.jobs = ["swo-mirror0": "ready"]
    it.source.reactions["block-job-cancel"] = { $0.source.jobs["swo-mirror0"] = "concluded" }
    it.source.reactions["job-dismiss"] = { $0.source.jobs = [:] }
    it.run()
    let commands = it.target.commands
    let stop = try #require(commands.firstIndex(of: "nbd-server-stop"))
    let grant = try #require(commands.firstIndex(of: "cont"))
    #expect(stop < grant)
    // Then the mirrors go, and their nodes.
    #expect(it.source.arguments["block-job-cancel"]?["force"] == .bool(true))
    #expect(it.source.commands.contains("job-dismiss"))
    #expect(it.source.arguments["blockdev-del"]?["node-name"] == "swo-nbd0")
  }

  @Test func anNBDServerThatDoesNotStopForbidsTheGrant() throws {
    var it = Self.pair(nil) {
      $0.options.cluster = RecoverySituation.Cluster.none
      $0.options.guestRan = true
    }
    it.target.answers["nbd-server-stop"] = refusal("busy")
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.action == .ask && conclusion.owner == .nobody)
    #expect(conclusion.text.contains("I3"))
    #expect(!it.target.commands.contains("cont"))
  }

  @Test func anNBDServerThatDoesNotRunIsNoHindrance() throws {
    var it = Self.pair(nil) {
      $0.options.cluster = .target
      $0.options.guestRan = true
    }
    it.target.answers["nbd-server-stop"] = refusal("NBD server not running")
    it.run()
    #expect(try conclusion(of: it).owner == .target)
    #expect(it.target.commands.contains("cont"))
    #expect(it.persisted.isEmpty)
  }

  @Test func aRefusedGrantSaysWhy() throws {
    var it = Self.pair(Self.record(.none))
    it.target.reactions["cont"] = nil
    it.target.answers["cont"] = refusal(#"Failed to get \"write\" lock"#)
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.action == .ask && conclusion.owner == .nobody)
    #expect(conclusion.text.contains("image still open on the source?"))
    #expect(it.target.commands.count { $0 == "cont" } == 1)
    #expect(try outcome(of: it).owner == .nobody)
  }

  @Test func aGrantWhoseReplyIsLostIsSettledByTheNextLook() throws {
    var it = Self.pair(Self.record(.none))
    it.target.reactions["cont"] = {
      $0.target.runState = "running"
      $0.cut(.targetMonitor)
    }
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.owner == .target && conclusion.guest == .running)
    #expect(it.target.commands.count { $0 == "cont" } == 1)
  }

  // MARK: - Disarming

  @Test func aWaitingTargetIsDisarmedAndAskedAgain() throws {
    var it = Self.pair(Self.record(.none))
    it.target.runState = "inmigrate"
    it.target.status = "active"
    var looks = 0
    it.target.reactions["query-status"] = { pair in
      looks += 1
      if looks == 4 {
        pair.target.runState = "paused"
        pair.target.status = "completed"
      }
    }
    it.run()
    #expect(it.target.commands.count { $0 == "stop" } == 1)
    #expect(
      Array(it.target.commands.prefix(5)) == [
        "query-status", "query-migrate", "stop", "query-status", "query-migrate",
      ])
    #expect(try conclusion(of: it).owner == .target)
    #expect(it.target.commands.count { $0 == "cont" } == 1)
  }

  @Test func aTargetThatNeverLoadsIsNotDecidedAbout() throws {
    var it = Self.pair(Self.record(.none))
    it.target.runState = "inmigrate"
    it.target.status = "active"
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.rule == "completed-loading" && conclusion.action == .ask)
    #expect(conclusion.owner == .nobody)
    #expect(!it.target.commands.contains("cont") && !it.source.commands.contains("cont"))
    // Its settings are not touched while it waits.
    #expect(!it.target.commands.contains("migrate-set-capabilities"))
  }

  @Test func aRunningTargetIsNeverStopped() throws {
    for sourceRuns in [false, true] {
      var it = Self.pair(Self.record(.none))
      it.target.runState = "running"
      if sourceRuns {
        it.source.runState = "running"
        it.source.status = "failed"
      }
      it.run()
      #expect(!it.target.commands.contains("stop") && !it.target.commands.contains("quit"))
      #expect(!it.source.commands.contains("stop") && !it.source.commands.contains("quit"))
      let conclusion = try conclusion(of: it)
      #expect(conclusion.owner == (sourceRuns ? .unknown : .target))
      #expect(conclusion.rule == (sourceRuns ? "both-run" : "completed-target-runs"))
    }
  }

  // MARK: - Backwards

  @Test func theGuestGoesBackWhereOwnershipIsWithTheSource() throws {
    var it = Self.pair(Self.record(.beforeResume)) { $0.options.cluster = .source }
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.owner == .source && conclusion.guest == .running)
    #expect(conclusion.action == .resumeSource)
    let commands = it.target.commands
    #expect(commands.firstIndex(of: "stop") ?? 99 < commands.firstIndex(of: "quit") ?? -1)
    let resumed = it.source.commands.firstIndex(of: "cont") ?? -1
    #expect(resumed > 0 && it.source.commands[resumed + 1] == "announce-self")
    #expect(!it.target.isThere)
    #expect(try outcome(of: it).owner == .source)
  }

  @Test func aTargetThatDoesNotEndKeepsTheSourceStanding() throws {
    var it = Self.pair(Self.record(.beforeResume)) { $0.options.cluster = .source }
    it.target.answers["quit"] = "{}"
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.action == .ask && conclusion.owner == .nobody)
    #expect(!it.source.commands.contains("cont"))
  }

  @Test func aLostQuitIsNoProof() throws {
    var it = Self.pair(Self.record(.beforeResume)) { $0.options.cluster = .source }
    it.target.answers["quit"] = .some(nil)
    it.target.reactions["quit"] = {
      // The connection breaks, and the address answers nobody any more: its process may still live.
      $0.cut(.targetMonitor)
      $0.target.isThere = false
    }
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.rule == "completed-target-silent")
    #expect(conclusion.words == [.targetFenced])
    #expect(!it.source.commands.contains("cont"))
  }

  @Test func mirrorsEndBeforeTheSourceIsResumed() throws {
    let mirrors = [
      JournalRecord.Mirror(device: "d0", jobID: "swo-mirror0", node: "swo-nbd0", isOurs: true),
      JournalRecord.Mirror(device: "d1", jobID: "drive-d1", node: nil, isOurs: false),
    ]
    var it = Self.pair(Self.record(.none, mirrors: mirrors)) {
      $0.options.target.isProvenDead = true
      $0.options.targetNeverRan = true
    }
    it.target.isThere = false
    it.source.jobs = ["swo-mirror0": "ready", "drive-d1": "ready"]
    it.source.reactions["block-job-cancel"] = { $0.source.jobs = [:] }
    it.run()
    let commands = it.source.commands
    let resumed = try #require(commands.firstIndex(of: "cont"))
    #expect(commands[..<resumed].count { $0 == "block-job-cancel" } == 2)
    #expect(commands[..<resumed].count { $0 == "blockdev-del" } == 1)
    #expect(try conclusion(of: it).owner == .source)
  }

  @Test func aMirrorThatHangsIsBrokenOutOfBand() throws {
    let mirror = JournalRecord.Mirror(
      device: "d0", jobID: "swo-mirror0", node: "swo-nbd0", isOurs: true)
    var it = Self.pair(Self.record(.none, mirrors: [mirror])) {
      $0.options.target.isProvenDead = true
      $0.options.targetNeverRan = true
      $0.sourceOutOfBand = .unix(path: "/source-oob.qmp")
    }
    it.target.isThere = false
    it.source.jobs = ["swo-mirror0": "aborting"]
    it.source.reactions["yank"] = { $0.source.jobs = [:] }
    it.run()
    #expect(it.source.commands.count { $0 == "yank" } == 1)
    #expect(try conclusion(of: it).owner == .source)
  }

  @Test func aMirrorThatNeverEndsKeepsTheSourceStanding() throws {
    let mirror = JournalRecord.Mirror(
      device: "d0", jobID: "swo-mirror0", node: "swo-nbd0", isOurs: true)
    var it = Self.pair(Self.record(.none, mirrors: [mirror])) {
      $0.options.target.isProvenDead = true
      $0.options.targetNeverRan = true
    }
    it.target.isThere = false
    it.source.jobs = ["swo-mirror0": "aborting"]
    it.run()
    #expect(!it.source.commands.contains("cont"))
    #expect(try conclusion(of: it).text.contains("mirrors took too long"))
  }

  // MARK: - On its way

  @Test func anAbandonedTransferIsCancelled() throws {
    var it = Self.pair(Self.record(.none))
    it.source.runState = "running"
    it.source.status = "active"
    it.target.runState = "inmigrate"
    it.target.status = "active"
    it.source.reactions["migrate_cancel"] = {
      $0.source.status = "cancelled"
      $0.die(.target)
    }
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.action == .cancelMigration)
    #expect(conclusion.owner == .source && conclusion.guest == .running)
    #expect(it.source.commands.count { $0 == "migrate_cancel" } == 1)
    // The target was disarmed before the cancel: neither order of the two can leave both running.
    #expect(it.target.commands.contains("stop"))
  }

  /// Ended by force under the guest's writes, a write-blocking mirror takes QEMU down.
  @Test(
    "mirrors end before the transfer is cancelled, and not by force where the guest may write",
    arguments: [
      ("ready", (7, 2), "block-job-cancel", false), ("ready", (10, 0), "block-job-cancel", false),
      ("running", (7, 2), "yank", nil), ("running", (10, 0), "block-job-cancel", true),
    ])
  func mirrorsOfAnAbandonedTransferEnd(
    status: String, version: (Int, Int), command: String, force: Bool?
  ) throws {
    let mirror = JournalRecord.Mirror(
      device: "d0", jobID: "swo-mirror0", node: "swo-nbd0", isOurs: true)
    var it = Self.pair(Self.record(.none, mirrors: [mirror]))
    it.source.version = version
    it.source.runState = "running"
    it.source.status = "active"
    it.target.runState = "inmigrate"
    it.target.status = "active"
    it.source.jobs = ["swo-mirror0": status]
    it.source.reactions[command] = { $0.source.jobs["swo-mirror0"] = "concluded" }
    it.source.reactions["job-dismiss"] = { $0.source.jobs = [:] }
    it.source.reactions["migrate_cancel"] = {
      $0.source.status = "cancelled"
      $0.die(.target)
    }
    it.run()
    #expect(try conclusion(of: it).owner == .source)
    let commands = it.source.commands
    let steps = commands.filter {
      [command, "job-dismiss", "blockdev-del", "migrate_cancel"].contains($0)
    }
    #expect(steps.prefix(4) == [command, "job-dismiss", "blockdev-del", "migrate_cancel"])
    #expect(it.source.arguments["block-job-cancel"]?["force"] == force.map { .bool($0) })
  }

  @Test func aGuestThatWaitsInPreSwitchoverGoesOn() throws {
    var it = Self.pair(Self.record(.beforeResume))
    it.source.runState = "finish-migrate"
    it.source.status = "pre-switchover"
    it.target.isThere = false
    it.source.reactions["migrate_cancel"] = {
      $0.source.status = "cancelled"
      $0.source.runState = "running"
    }
    it.run()
    #expect(try conclusion(of: it).owner == .source)
    #expect(try conclusion(of: it).guest == .running)
  }

  @Test(
    "a switchover that QEMU has not decided is never cancelled",
    arguments: ["device", "failing-somehow"])
  func anUndecidedSwitchoverIsWaitedFor(status: String) throws {
    var it = Self.pair(Self.record(.none))
    it.source.runState = "finish-migrate"
    it.source.status = status
    var looks = 0
    it.source.reactions["query-status"] = { pair in
      looks += 1
      if looks == 10 {
        pair.source.status = "completed"
        pair.source.runState = "postmigrate"
      }
    }
    it.run()
    #expect(!it.source.commands.contains("migrate_cancel"))
    #expect(try conclusion(of: it).owner == .target)
  }

  // MARK: - Deaths and strangers

  @Test func aDeadSourceNeedsAProof() throws {
    for isProven in [false, true] {
      var it = Self.pair(Self.record(.none)) { $0.options.source.isProvenDead = isProven }
      it.source.isThere = false
      it.run()
      let conclusion = try conclusion(of: it)
      #expect(conclusion.owner == (isProven ? .target : .unknown))
      #expect(it.target.commands.contains("cont") == isProven)
      if !isProven { #expect(conclusion.words == [.sourceFenced]) }
    }
  }

  @Test func theHostProgramsWordIsAProof() throws {
    var it = Self.pair(Self.record(.none)) { $0.options.source.isFenced = true }
    it.source.isThere = false
    it.run()
    #expect(try conclusion(of: it).owner == .target)
  }

  @Test func whoAnswersIsNotDeadWhateverTheWord() throws {
    var it = Self.pair(Self.record(.none)) { $0.options.source.isFenced = true }
    it.source.runState = "running"
    it.source.status = "failed"
    it.run()
    #expect(try conclusion(of: it).owner == .source)
    #expect(!it.target.commands.contains("cont"))
  }

  @Test func anotherQEMUAtTheAddressIsAStranger() throws {
    var record = Self.record(.none)
    record.source.process = PeerProcess(pid: 100, startTime: 1)
    var it = Self.pair(record) { $0.options.source.isProvenDead = true }
    // The guest may have been started afresh there.
    it.source.process = PeerProcess(pid: 200, startTime: 2)
    it.source.runState = "running"
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.action == .ask && conclusion.owner == .unknown)
    #expect(it.source.commands.isEmpty)
    #expect(!it.target.commands.contains("cont"))
    #expect(conclusion.findings.contains { $0.contains("another QEMU") })
  }

  @Test func aDeadTargetGivesTheGuestBackOnlyWhereItNeverRan() throws {
    for neverRan in [false, true] {
      var it = Self.pair(Self.record(.none)) {
        $0.options.target.isProvenDead = true
        $0.options.targetNeverRan = neverRan
      }
      it.target.isThere = false
      it.run()
      let conclusion = try conclusion(of: it)
      #expect(conclusion.owner == (neverRan ? .source : .nobody))
      #expect(it.source.commands.contains("cont") == neverRan)
    }
  }

  /// It was seen waiting, and its process ended on the same connection: it never ran.
  @Test func aTargetThatDiesUnderOurEyesBeforeItLoadsNeverRan() throws {
    var record = Self.record(.none)
    record.target.process = PeerProcess(pid: 7, startTime: 7)
    var it = Self.pair(record)
    it.target.process = record.target.process
    it.target.runState = "inmigrate"
    it.target.status = "active"
    var looks = 0
    it.target.reactions["query-status"] = {
      looks += 1
      if looks == 5 { $0.die(.target) }
    }
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.owner == .source && conclusion.action == .resumeSource)
  }

  // MARK: - Words, and no journal

  @Test func withoutAJournalNothingIsGuessed() throws {
    var it = Self.pair(nil)
    it.run()
    var conclusion = try conclusion(of: it)
    #expect(conclusion.rule == "completed-loaded-unowned")
    #expect(conclusion.words == [.ownershipWithSource, .ownershipWithTarget])
    it = Self.pair(nil) { $0.options.cluster = .target }
    it.run()
    conclusion = try #require(it.session.conclusion)
    #expect(conclusion.words == [.guestRan, .guestStood])
    #expect(!it.target.commands.contains("cont"))
  }

  @Test func aGuestThatStoodIsLeftStanding() throws {
    var it = Self.pair(Self.record(.none, runState: "paused"))
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.owner == .target && conclusion.guest == .paused)
    #expect(!it.target.commands.contains("cont"))
  }

  @Test func oneReachableSideIsEnough() throws {
    var it = Self.pair(Self.record(.none)) { $0.sourceMonitor = nil }
    it.target.runState = "running"
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.owner == .target && conclusion.rule == "silent-target-runs")
    #expect(it.source.commands.isEmpty)
  }

  @Test func withNobodyToAskAPersonIsAsked() throws {
    var it = Self.pair(nil) {
      $0.sourceMonitor = nil
      $0.targetMonitor = nil
    }
    it.run()
    #expect(try conclusion(of: it).rule == "silent-both")
  }

  @Test func aDryRunChangesNothing() throws {
    for waits in [false, true] {
      var it = Self.pair(Self.record(.none, sourceEnd: .quit)) { $0.options.isDryRun = true }
      if waits {
        it.target.runState = "inmigrate"
        it.target.status = "active"
      }
      it.run()
      let conclusion = try conclusion(of: it)
      #expect(conclusion.action == (waits ? .wait : .resumeTarget))
      #expect(conclusion.owner == .nobody)
      let commands = Set(it.source.commands + it.target.commands)
      #expect(commands == ["query-status", "query-migrate", "query-block-jobs"])
      #expect(it.persisted.isEmpty && conclusion.deeds.isEmpty)
    }
  }

  @Test func aSettledJournalIsLeftAlone() throws {
    var record = Self.record()
    record.outcome = JournalRecord.Outcome(
      end: .completed, owner: .target, guest: .running, text: "", nextStep: "")
    var it = Self.pair(record)
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.rule == "settled" && conclusion.owner == .target)
    #expect(it.source.commands.isEmpty && it.target.commands.isEmpty && it.persisted.isEmpty)
  }

  @Test func aBusyMonitorIsNamed() throws {
    var it = Self.pair(Self.record(.none))
    it.target.isSilent = true
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.rule == "completed-target-silent")
    #expect(conclusion.findings.contains { $0.contains("busy") })
  }

  @Test func aMonitorThatStopsAnsweringIsGivenUp() throws {
    var it = Self.pair(Self.record(.none))
    it.target.answers["query-migrate"] = .some(nil)
    it.run()
    let conclusion = try conclusion(of: it)
    #expect(conclusion.rule == "completed-target-silent" && conclusion.action == .ask)
  }

  /// QEMU may say anything; recovery ends all the same, and resumes nothing on words it cannot place.
  @Test(arguments: ["colo", "restore-vm", "prelaunch", "from-tomorrow"])
  func strangeRunStatesDecideNothing(state: String) throws {
    for side in Side.allCases {
      var it = Self.pair(Self.record(.none))
      it[side].runState = state
      it.run()
      #expect(try conclusion(of: it).action == .ask)
      #expect(!it.target.commands.contains("cont") && !it.source.commands.contains("cont"))
    }
  }
}
