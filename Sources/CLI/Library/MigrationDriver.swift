import CSwitchover
import Glibc

/// A descriptor that somebody else reads while a migration runs.
protocol DescriptorWatch: AnyObject {
  /// Negative when there is nothing more to read.
  var descriptor: Int32 { get }
  /// Reads what is there without waiting.
  func readArrived()
}

/// Takes one migration from its start to its end: the library's events become words, a signal
/// becomes a cancel, a wanted hand-over becomes the operator's command.
final class MigrationDriver {
  /// What is asked of the library.
  enum Kind {
    case migrate
    case check
  }

  private let plan: MigrationPlan
  private let loop: Loop
  private let migration: Migration
  private let signals: SignalPipe
  private let outputs: Outputs
  private var narrator: any Narrator
  private let watches: [any DescriptorWatch]
  private var started = monotonicNanoseconds()
  private var handOver: ChildProgram?
  private var wasCancelled = false
  private var wasTooLate = false
  private var hasLeft = false

  init(
    _ plan: MigrationPlan, signals: SignalPipe, outputs: Outputs, narrator: any Narrator,
    watches: [any DescriptorWatch] = []
  ) throws {
    self.plan = plan
    self.signals = signals
    self.outputs = outputs
    self.narrator = narrator
    self.watches = watches
    do {
      loop = try Loop(ssh: plan.ssh)
      migration = try Migration(plan, in: loop)
    } catch let error as LibraryError {
      throw CommandFailure(local: error.text)
    }
  }

  /// Tells something that was noticed before the start.
  func warn(_ text: String) { tell(.warned(text)) }

  /// Runs it to its end and returns what is known then.
  func run(_ kind: Kind) throws -> MigrationSnapshot {
    started = monotonicNanoseconds()
    do {
      try kind == .check ? migration.check() : migration.start()
    } catch let error as LibraryError {
      throw CommandFailure(local: error.text)
    }
    do {
      while try !takeEvents(), !hasLeft { try waitAndServe() }
    } catch let error as LibraryError {
      outputs.drain()
      throw CommandFailure(migration.snapshot.exitStatus, error.text)
    }
    if !hasLeft { waitForHandOver() }
    tell(.ended)
    outputs.drain()
    return migration.snapshot
  }

  private func tell(_ news: MigrationNews, _ phase: Word? = nil) {
    let elapsed = (monotonicNanoseconds() - started) / 1_000_000
    var snapshot = migration.snapshot
    if let phase { snapshot.phase = phase }
    outputs.say(narrator.tell(news, snapshot, elapsedMilliseconds: elapsed))
  }

  /// Takes every event that waits; true once the migration has ended.
  private func takeEvents() throws -> Bool {
    while let event = try loop.nextEvent() {
      switch event {
      case .phase(let phase): tell(.entered, phase)
      case .progress: tell(.progressed)
      case .warning(let text): tell(.warned(text))
      case .log(let text): tell(.logged(text))
      case .handOverWanted: startHandOver()
      case .finished: return true
      case .monitorEvent, .monitorClosed, .other: break
      }
    }
    return false
  }

  private func waitAndServe() throws {
    let input = Int16(POLLIN)
    let waiting = outputs.waiting
    let ready = waitForDescriptors(
      watches.map { ($0.descriptor, input) }
        + [(loop.descriptor, input), (signals.descriptor, input)]
        + waiting.map { ($0.descriptor, Int16(POLLOUT)) },
      timeoutMilliseconds: -1)
    // The watches first: they note the time.
    for (watch, isReady) in zip(watches, ready) where isReady { watch.readArrived() }
    if ready[watches.count] { try loop.dispatch() }
    for signal in signals.takeArrived() {
      if SignalPipe.interruptions.contains(signal) {
        try interrupt(by: SignalPipe.name(signal))
      } else {
        finishHandOver()
      }
    }
    for output in waiting { output.flush() }
  }

  // MARK: - Interruption

  private func interrupt(by signal: String) throws {
    if mayLeave {
      hasLeft = true
      return
    }
    do {
      try migration.cancel()
      if !wasCancelled { tell(.cancelSent(signal: signal)) }
      wasCancelled = true
    } catch let error as LibraryError where error.has(.SWO_E_TOO_LATE) {
      wasTooLate = true
      let hint =
        mayLeave
        ? ": the guest runs on the target and only the hand-over is missing; once more leaves it to you"
        : "; the migration goes on"
      tell(.cancelTooLate(signal: signal, hint: hint))
    } catch let error as LibraryError where error.has(.SWO_E_STATE) {
      // It has ended already, and the event that says so is on its way.
    }
  }

  /// Whether nothing but somebody else's part is missing, so that leaving harms no guest.
  private var mayLeave: Bool {
    guard migration.phase == swo_phase.SWO_PHASE_HANDING_OVER.number else { return false }
    return plan.handOver == .external || plan.handOver == .afterResume && wasTooLate
  }

  // MARK: - Hand-over

  private func startHandOver() {
    guard let command = plan.handOverCommand else {
      tell(.handOverAwaited)
      return
    }
    tell(.handOverStarted(command: command))
    do {
      handOver = try HandOverCommand.start(command, for: plan)
      // It may have ended before its signal could be told from an older one.
      finishHandOver()
    } catch {
      answer(.failed, how: (error as? CommandFailure)?.text ?? "the command could not be started")
    }
  }

  private func finishHandOver() {
    guard let child = handOver, child.hasEnded(), let end = child.end else { return }
    handOver = nil
    let (result, how) = HandOverCommand.result(of: end)
    answer(result, how: how)
  }

  private func answer(_ result: HandOverResult, how: String) {
    // A migration that has ended meanwhile needs no answer, and says so.
    try? migration.handedOver(result)
    tell(.handOverEnded(result, how: how))
  }

  /// Whoever moves ownership is not left alone with it, even if the migration did not wait.
  private func waitForHandOver() {
    while handOver != nil {
      _ = waitForDescriptors(
        [(signals.descriptor, Int16(POLLIN))], timeoutMilliseconds: -1)
      for signal in signals.takeArrived() where SignalPipe.interruptions.contains(signal) { return }
      finishHandOver()
    }
  }
}
