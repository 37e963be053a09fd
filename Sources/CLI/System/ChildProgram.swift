import Glibc

/// A program that this one has started, and the only kind of child that it waits for.
final class ChildProgram {
  /// How a child ended.
  enum End: Equatable {
    case exited(status: Int32)
    case signalled(Int32)
  }

  /// Where a child's output goes.
  enum Stream {
    /// To this program's standard error.
    case standardError
    case null
    /// To a new file.
    case file(String)
  }

  let pid: pid_t
  private(set) var end: End?

  /// Starts a program, found as a shell finds it.
  ///
  /// It has a process group of its own: Ctrl-C on the terminal is for this program alone, which then
  /// decides. It inherits the standard streams only, with nothing to read.
  init(
    _ words: [String], environment: [String] = ChildProgram.environment, output: Stream,
    error: Stream = .standardError
  ) throws {
    var actions = posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawnattr_init(&attributes)
    defer {
      posix_spawn_file_actions_destroy(&actions)
      posix_spawnattr_destroy(&attributes)
    }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    Self.connect(STDOUT_FILENO, to: output, &actions)
    Self.connect(STDERR_FILENO, to: error, &actions)
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    for signal in SignalPipe.interruptions + [SIGCHLD, SIGPIPE, SIGTSTP, SIGTTOU] {
      sigaddset(&signals, signal)
    }
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setpgroup(&attributes, 0)
    let flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK
    posix_spawnattr_setflags(&attributes, Int16(truncatingIfNeeded: flags))

    var arguments = words.map { strdup($0) } + [nil]
    var variables = environment.map { strdup($0) } + [nil]
    defer { for text in arguments + variables { free(text) } }
    var child: pid_t = 0
    let code = posix_spawnp(
      &child, words.first ?? "", &actions, &attributes, &arguments, &variables)
    guard code == 0 else {
      throw CommandFailure(local: systemError("start \(words.first ?? "")", code: code))
    }
    pid = child
  }

  /// Whether the child has ended; never waits.
  func hasEnded() -> Bool {
    guard end == nil else { return true }
    var status: Int32 = 0
    guard waitpid(pid, &status, WNOHANG) == pid else { return false }
    let signal = status & 0x7f
    end = signal == 0 ? .exited(status: status >> 8 & 0xff) : .signalled(signal)
    return true
  }

  func send(_ signal: Int32) {
    // Before it is reaped the id belongs to nobody else.
    if end == nil { kill(pid, signal) }
  }

  /// The same to everything that it has started and that has not left its group.
  func sendToGroup(_ signal: Int32) {
    if end == nil { kill(-pid, signal) }
  }

  /// This program's own environment, as `NAME=value`.
  static var environment: [String] {
    var result: [String] = []
    var next = environ
    while let entry = next.pointee {
      result.append(String(cString: entry))
      next = next.advanced(by: 1)
    }
    return result
  }

  private static func connect(
    _ descriptor: Int32, to stream: Stream, _ actions: inout posix_spawn_file_actions_t
  ) {
    switch stream {
    case .standardError where descriptor != STDERR_FILENO:
      posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, descriptor)
    case .standardError:
      break
    case .null:
      posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_WRONLY, 0)
    case .file(let path):
      let flags = O_WRONLY | O_CREAT | O_TRUNC
      posix_spawn_file_actions_addopen(&actions, descriptor, path, flags, 0o600)
    }
  }
}
