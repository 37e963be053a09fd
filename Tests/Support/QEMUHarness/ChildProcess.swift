import CQEMUHarness
import Foundation
import Glibc

/// A program that was started here and never outlives the test's process.
///
/// A thread starts the child and then waits for its end: the kernel's parent-death signal is bound
/// to the thread that starts a child, so this thread must live as long as the child does.
public final class ChildProcess: Sendable {
  /// How a child ended.
  public enum Exit: Sendable, Equatable {
    case exited(status: Int32)
    /// Ended by a signal: `SIGABRT` is a failed assertion inside the program.
    case signalled(Int32)
  }

  private struct State {
    var pid: pid_t?
    var startError: Int32?
    var exit: Exit?
  }

  public let pid: pid_t
  private let state: Guarded<State>
  private let standardErrorPath: String
  private let standardOutputPath: String
  /// Readable (at its end) once the child has ended.
  let endDescriptor: Int32

  /// Starts a program with nothing inherited but its standard streams; output goes to a file.
  public init(
    _ executable: String, _ arguments: [String], standardErrorPath: String,
    standardOutputPath: String = "/dev/null"
  ) throws {
    self.standardErrorPath = standardErrorPath
    self.standardOutputPath = standardOutputPath
    var ends: [Int32] = [-1, -1]
    guard qemu_harness_pipe(&ends) == 0 else { throw HarnessError.system("pipe", code: errno) }
    let (endDescriptor, aliveDescriptor) = (ends[0], ends[1])
    let state = Guarded(State())
    let thread = Thread {
      Self.startAndWait([executable] + arguments, standardOutputPath, standardErrorPath, state)
      close(aliveDescriptor)
    }
    thread.stackSize = 1 << 18
    thread.start()
    let started = state.wait(upTo: .seconds(60)) { state -> Result<pid_t, HarnessError>? in
      if let pid = state.pid { return .success(pid) }
      return state.startError.map { .failure(.system("start \(executable)", code: $0)) }
    }
    do {
      guard let started else { throw HarnessError("start \(executable): no answer") }
      pid = try started.get()
    } catch {
      close(endDescriptor)
      throw error
    }
    self.state = state
    self.endDescriptor = endDescriptor
  }

  deinit {
    kill()
    _ = waitForExit(upTo: .seconds(60))
    close(endDescriptor)
  }

  /// Ends the child at once (`SIGKILL`), or sends it another signal.
  public func kill(signal: Int32 = SIGKILL) {
    // Under the lock the child is not reaped, so the id cannot belong to anybody else.
    state.withLock { state in
      if state.exit == nil { _ = Glibc.kill(pid, signal) }
    }
  }

  /// How the child ended, or nil if it still runs at the limit's end.
  public func waitForExit(upTo limit: Duration) -> Exit? {
    state.wait(upTo: limit) { $0.exit }
  }

  /// How the child ended, or nil while it runs.
  public var exit: Exit? {
    state.withLock { $0.exit }
  }

  /// Everything that the child has written to its standard error.
  public var standardError: String {
    String(decoding: readFile(standardErrorPath) ?? [], as: UTF8.self)
  }

  /// Everything that the child has written to its standard output, if that goes to a file.
  public var standardOutput: String {
    String(decoding: readFile(standardOutputPath) ?? [], as: UTF8.self)
  }

  private static func startAndWait(
    _ words: [String], _ outputPath: String, _ errorPath: String, _ state: Guarded<State>
  ) {
    var arguments = words.map { strdup($0) } + [nil]
    let pid = qemu_harness_spawn(&arguments, outputPath, errorPath)
    let code = errno
    for argument in arguments { free(argument) }
    guard pid >= 0 else {
      state.withLock { $0.startError = code }
      return
    }
    state.withLock { $0.pid = pid }

    var information = siginfo_t()
    while waitid(P_PID, id_t(pid), &information, WEXITED | WNOWAIT) != 0, errno == EINTR {}
    state.withLock { state in
      var status: Int32 = 0
      while waitpid(pid, &status, 0) < 0, errno == EINTR {}
      let signal = status & 0x7f
      state.exit = signal == 0 ? .exited(status: status >> 8 & 0xff) : .signalled(signal)
    }
  }
}
