import MigrationEngine
import Testing

/// Drives one engine by hand: what QEMU would answer to the ordinary questions is answered, everything
/// else is the test's.
struct Scenario {
  var engine: MigrationEngine
  var now = MonotonicInstant(nanoseconds: 1_000_000_000)
  /// Commands that were sent and not answered yet, oldest first.
  var open: [(side: Side, command: Command)] = []
  /// Everything the engine wanted, in order.
  var log: [EngineEffect] = []
  var sourceState = RunState.running
  var targetState = RunState.inmigrate
  var jobs: [BlockJobReport] = []
  var exports: [BlockExportReport] = []
  var release = QEMURelease(7, 2, 22)

  init(
    _ handOver: HandOverMode = .none, disks: Int = 0,
    change: (inout MigrationOptions) -> Void = { _ in }
  ) {
    var options = MigrationOptions()
    options.uri = "unix:/migrate"
    options.handOver = handOver
    options.sourceEnd = .quit
    if disks > 0 {
      options.storage.address = .unix(path: "/nbd")
      options.storage.listenAddress = .unix(path: "/nbd")
      options.storage.disks = (0..<disks).map {
        DiskOptions(device: "d\($0)", exportName: "d\($0)", targetNode: "d\($0)")
      }
    }
    change(&options)
    engine = MigrationEngine(options: options)
  }

  mutating func feed(_ input: EngineInput, after span: Span = .milliseconds(1)) {
    now = now + span
    var effects: [EngineEffect] = []
    engine.handle(input, at: now, effects: &effects)
    log += effects
    for effect in effects {
      switch effect {
      case .send(let command, let side): open.append((side, command))
      default: break
      }
    }
  }

  mutating func event(_ side: Side, _ event: QEMUEvent) {
    feed(.eventArrived(side, event, timestamp: now.nanoseconds / 1000))
  }

  mutating func reply(_ side: Side, _ command: Command, _ reply: CommandReply = .answered(.done)) {
    guard let index = open.firstIndex(where: { $0.side == side && $0.command == command }) else {
      Issue.record("\(command) was not asked of the \(side); open: \(open)")
      return
    }
    open.remove(at: index)
    feed(.replied(side, command, reply, roundTrip: .milliseconds(1)))
  }

  /// Answers what any QEMU would answer at once, until nothing of it is open; both are then no longer
  /// left alone after the guest's start.
  mutating func settle(except skipped: [Command] = []) {
    answer(except: skipped)
    let rest = Span.milliseconds(20)
    if engine.phase == .finishing, let next = engine.nextDeadline, next <= now + rest {
      pass(rest)
      answer(except: skipped)
    }
  }

  private mutating func answer(except skipped: [Command]) {
    var rounds = 0
    while rounds < 200,
      let index = open.firstIndex(where: { entry in
        ordinaryAnswer(entry.side, entry.command) != nil && !skipped.contains(entry.command)
      })
    {
      rounds += 1
      let entry = open.remove(at: index)
      if case .blockdevMirror(let job, _, _, _, _) = entry.command {
        jobs.append(
          BlockJobReport(id: job, isReady: false, length: 64, offset: 0, status: "running"))
      }
      guard let answer = ordinaryAnswer(entry.side, entry.command) else { return }
      feed(.replied(entry.side, entry.command, .answered(answer), roundTrip: .milliseconds(1)))
    }
  }

  private func ordinaryAnswer(_ side: Side, _ command: Command) -> Answer? {
    switch command {
    case .queryStatus: .runState(side == .source ? sourceState : targetState)
    case .queryMigrate where engine.phase == .preflight: .migration(targetReport(side))
    case .queryCapabilities:
      .capabilities(
        ["events", "return-path", "pause-before-switchover", "late-block-activate", "xbzrle"].map {
          CapabilitySetting(name: $0, on: false)
        })
    case .queryParameters:
      .parameters([
        ParameterSetting(name: "max-bandwidth", value: .integer(134_217_728)),
        ParameterSetting(name: "downtime-limit", value: .integer(300)),
      ])
    case .queryMachineType: .machineType("pc-q35-7.2-machine")
    case .queryMemorySize: .memorySize(bytes: 1 << 27)
    case .queryCommands: .commands(["block-job-cancel"])
    case .queryBlockJobs: .blockJobs(jobs)
    case .queryBlockExports: .blockExports(exports)
    case .queryBlockNodes, .queryBlockDevices: .blockNodes([])
    case .stop, .setCapabilities, .setParameters, .migrateIncoming, .migrate, .announceSelf,
      .nbdServerStart, .blockExportAdd, .blockdevAdd, .blockdevMirror:
      .done
    case .queryMigrate, .cont, .quit, .migrateContinue, .migrateCancel, .nbdServerStop,
      .blockdevDel, .driveMirror, .blockJobChange, .blockJobSetSpeed, .blockJobCancel, .jobDismiss,
      .yank:
      nil
    }
  }

  private func targetReport(_ side: Side) -> MigrationReport {
    var report = MigrationReport()
    report.listens = side == .target
    return report
  }

  /// Everything up to an active migration.
  static func transferring(
    _ handOver: HandOverMode = .none, disks: Int = 0, sourceState: RunState = .running,
    exports: [BlockExportReport] = [], change: (inout MigrationOptions) -> Void = { _ in }
  ) -> Scenario {
    var scenario = Scenario(handOver, disks: disks, change: change)
    scenario.sourceState = sourceState
    scenario.exports = exports
    scenario.feed(.startRequested)
    scenario.feed(.monitorReady(.source, scenario.release))
    scenario.feed(.monitorReady(.target, scenario.release))
    scenario.settle()
    if disks > 0 {
      scenario.jobs = (0..<disks).map {
        BlockJobReport(
          id: MirrorNames.job($0), isReady: true, length: 64, offset: 64, status: "ready")
      }
      scenario.settle()
      for index in 0..<disks {
        scenario.event(.source, .blockJobReady(job: MirrorNames.job(index)))
      }
      scenario.settle()
    }
    scenario.event(.source, .migration(.setup))
    scenario.event(.source, .migration(.active))
    scenario.event(.target, .migration(.active))
    #expect(scenario.engine.phase == .transferring)
    return scenario
  }

  /// After `completed`, with `external`: up to the host program's turn.
  mutating func letGoOfBoth() {
    reply(.source, .queryMigrate, .answered(.unreadable))
    feed(.monitorLost(.target))
    feed(.monitorLost(.source))
  }

  /// STOP, explained by `query-status`, then `completed`.
  mutating func completeOnSource() {
    event(.source, .stop)
    sourceState = .finishMigrate
    settle()
    if engine.options.storage.disks.isEmpty == false {
      event(.source, .migration(.preSwitchover))
      settle()
      if open.contains(where: { $0.command == .migrateContinue }) {
        reply(.source, .migrateContinue)
      }
    }
    event(.source, .migration(.device))
    sourceState = .postmigrate
    event(.source, .migration(.completed))
  }

  func sent(_ command: Command, to side: Side) -> Int {
    log.count { $0 == .send(command, to: side) }
  }

  func position(_ effect: EngineEffect) -> Int? { log.firstIndex(of: effect) }

  /// A side's QEMU is gone, and the kernel says so.
  mutating func die(_ side: Side) {
    feed(.heardToTheEnd(side))
    lose(side)
    feed(.processExited(side))
  }

  /// A monitor's connection ends, and takes with it what was not answered.
  mutating func lose(_ side: Side) {
    feed(.monitorLost(side))
    while let index = open.firstIndex(where: { $0.side == side }) {
      let entry = open.remove(at: index)
      feed(.replied(side, entry.command, .lost, roundTrip: .zero))
    }
  }

  /// It is back, and answers with these.
  mutating func comeBack(_ side: Side, _ state: RunState, _ status: MigrationStatus) {
    if side == .source { sourceState = state } else { targetState = state }
    feed(.monitorReady(side, release))
    settle(except: Command.ofRecovery)
    report(side, status)
  }

  mutating func report(_ side: Side, _ status: MigrationStatus) {
    var report = MigrationReport()
    report.status = status
    reply(side, .queryMigrate, .answered(.migration(report)))
  }

  mutating func pass(_ span: Span) { feed(.timePassed, after: span) }
}

extension Command {
  /// What brings a pair to one owner: tests answer it themselves.
  static let ofRecovery: [Command] = [.cont, .quit, .migrateCancel, .migrateContinue]
}

extension MigrationEngine: CustomTestStringConvertible {
  public var testDescription: String { "engine in \(phase)" }
}

extension Scenario: CustomTestStringConvertible {
  var testDescription: String { "scenario in \(engine.phase), open: \(open)" }
}
