import Glibc

/// The writing end for the handler; -1 before the first pipe.
nonisolated(unsafe) private var writingEnd: Int32 = -1

/// The signals that this process takes, as bytes of a pipe: the handler does nothing but write one.
final class SignalPipe {
  /// What interrupts a command.
  static let interruptions = [SIGINT, SIGTERM, SIGHUP]

  let descriptor: Int32

  /// Takes the interruptions and the end of children from now on; one such value a process.
  ///
  /// A stop by Ctrl-Z or by the terminal is ignored: a program that stands between the source's STOP
  /// and the grant would let the guest stand with it.
  init() throws {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw CommandFailure(local: systemError("pipe")) }
    descriptor = ends[0]
    for end in ends {
      _ = fcntl(end, F_SETFD, FD_CLOEXEC)
      _ = fcntl(end, F_SETFL, O_NONBLOCK)
    }
    writingEnd = ends[1]
    for signal in Self.interruptions + [SIGCHLD] { Self.take(signal) }
    for signal in [SIGPIPE, SIGTSTP, SIGTTOU] { Self.ignore(signal) }
  }

  /// The signals that have arrived, oldest first.
  func takeArrived() -> [Int32] {
    var bytes = [UInt8](repeating: 0, count: 64)
    var signals: [Int32] = []
    while true {
      let count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
      guard count > 0 else {
        if count < 0, errno == EINTR { continue }
        return signals
      }
      signals += bytes.prefix(count).map(Int32.init)
    }
  }

  /// The name for people, such as "interrupt".
  static func name(_ signal: Int32) -> String {
    switch signal {
    case SIGINT: "interrupted"
    case SIGTERM: "asked to terminate"
    case SIGHUP: "terminal closed"
    default: "signal \(signal)"
    }
  }

  private static func take(_ signal: Int32) {
    var before = sigaction()
    sigaction(signal, nil, &before)
    // Whoever started this program with the signal ignored (nohup) wants it so.
    if signal != SIGCHLD, isIgnored(before) { return }
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { signal in
      let code = errno
      var byte = UInt8(truncatingIfNeeded: signal)
      _ = write(writingEnd, &byte, 1)
      errno = code
    }
    action.sa_flags = signal == SIGCHLD ? SA_NOCLDSTOP : 0
    sigaction(signal, &action, nil)
  }

  private static func ignore(_ signal: Int32) {
    var action = sigaction()
    action.__sigaction_handler.sa_handler = SIG_IGN
    sigaction(signal, &action, nil)
  }

  private static func isIgnored(_ action: sigaction) -> Bool {
    unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
      == unsafeBitCast(SIG_IGN, to: Int.self)
  }
}

/// What a system call answered, for people.
func systemError(_ call: String, code: Int32 = errno) -> String {
  "\(call): \(String(cString: strerror(code)))"
}
