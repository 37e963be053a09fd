import CSwitchover
import Glibc

/// Takes one recovery from its start to its end.
final class RecoveryDriver {
  /// Something worth telling on the way.
  enum News: Equatable {
    case warned(String)
    case logged(String)
  }

  private let loop: Loop
  private let recovery: Recovery
  private let signals: SignalPipe
  private let tell: (News) -> Void

  init(_ plan: RecoveryPlan, signals: SignalPipe, tell: @escaping (News) -> Void) throws {
    self.signals = signals
    self.tell = tell
    do {
      loop = try Loop(ssh: plan.ssh)
      recovery = try Recovery(plan, in: loop)
    } catch let error as LibraryError {
      throw CommandFailure(local: error.text)
    }
  }

  /// Runs it to its end; nil where somebody interrupted it.
  func run() throws -> RecoveryOutcome? {
    do {
      try recovery.start()
      while true {
        switch try loop.nextEvent() {
        case .warning(let text): tell(.warned(text))
        case .log(let text): tell(.logged(text))
        case .finished: return recovery.outcome
        case .some: break
        case nil:
          if try !waitAndServe() { return nil }
        }
      }
    } catch let error as LibraryError {
      throw CommandFailure(local: error.text)
    }
  }

  /// False after an interruption.
  private func waitAndServe() throws -> Bool {
    let input = Int16(POLLIN)
    let ready = waitForDescriptors(
      [(loop.descriptor, input), (signals.descriptor, input)], timeoutMilliseconds: -1)
    if ready[0] { try loop.dispatch() }
    return !signals.takeArrived().contains(where: SignalPipe.interruptions.contains)
  }
}
