import CPlatform
import Glibc

/// How a child ended, or that it did not yet.
public enum ChildStatus: Equatable, Sendable {
  case running
  case exited(code: Int32)
  case signalled(signal: Int32)
  /// It has ended and the host program collected it (or ignores SIGCHLD): how is unknown. No error.
  case alreadyReaped
}

/// A program that we started.
///
/// It runs in a session of its own, so that a Ctrl-C meant for the host program does not reach it,
/// with default signals, an empty mask and no descriptor but the three given ones. Only this one
/// child is ever waited for, never blocking.
public final class ChildProcess {
  public let processIdentifier: Int32
  /// Readable once the child has ended; nil when that was so before we could look.
  public let exitDescriptor: Descriptor?

  private let origin: ForkGuard
  private var collected: ChildStatus?

  /// Starts `arguments[0]`, searched in PATH, with the host program's environment.
  ///
  /// - Parameters:
  ///   - arguments: at least one, none with a zero byte (`EINVAL`).
  ///   - input: descriptor for the child's standard input, nil for /dev/null; stays the caller's.
  public init(
    arguments: [String], input: Int32? = nil, output: Int32? = nil, error: Int32? = nil
  ) throws(SystemError) {
    guard !arguments.isEmpty, !arguments.contains(where: { $0.utf8.contains(0) }) else {
      throw SystemError(errno: EINVAL, call: .spawn)
    }
    let standard = [
      try Self.source(input), try Self.source(output), try Self.source(error),
    ]
    origin = try ForkGuard()
    var pid: Int32 = 0
    try checked(.spawn) { Self.spawn(arguments, standard.map(\.number), &pid) }
    processIdentifier = pid
    exitDescriptor = try Self.watch(pid)
    if exitDescriptor == nil { collected = .alreadyReaped }
  }

  deinit {
    // Leaves no zombie behind where that needs no waiting.
    if !origin.isForeign { _ = reap() }
  }

  /// Looks whether the child has ended and collects it then; the answer stays the same afterwards.
  public func reap() -> ChildStatus {
    if let collected { return collected }
    guard let exitDescriptor, !origin.isForeign else { return .running }
    var status: Int32 = 0
    let value = result(of: .pidfdReap) { swp_pidfd_reap(exitDescriptor.number, &status) }
    switch value {
    case Int(swp_child_running): return .running
    case Int(swp_child_exited): collected = .exited(code: status)
    case Int(swp_child_signalled): collected = .signalled(signal: status)
    default: collected = .alreadyReaped
    }
    return collected ?? .alreadyReaped
  }

  /// Asks the child to end (SIGTERM); nothing happens if it already has.
  public func terminate() { signal(SIGTERM) }

  /// Ends the child (SIGKILL).
  public func kill() { signal(SIGKILL) }

  /// Ends the child (SIGKILL) and waits until it is gone, for at most `milliseconds`.
  ///
  /// The kernel needs a moment to take a process down; only one that hangs in it takes longer.
  public func end(withinMilliseconds milliseconds: Int32) {
    guard !origin.isForeign, reap() == .running, let exitDescriptor else { return }
    kill()
    let deadline = MonotonicClock.now + Int64(milliseconds) * 1_000_000
    while reap() == .running, MonotonicClock.now < deadline {
      var entry = pollfd(fd: exitDescriptor.number, events: Int16(POLLIN), revents: 0)
      _ = poll(&entry, 1, 10)
    }
  }

  private func signal(_ number: Int32) {
    guard collected == nil, !origin.isForeign, let exitDescriptor else { return }
    _ = result(of: .pidfdSignal) { swp_pidfd_signal(exitDescriptor.number, number) }
  }

  /// A copy numbered above 2, so that the order in which 0, 1 and 2 are made cannot matter.
  private static func source(_ number: Int32?) throws(SystemError) -> Descriptor {
    if let number { return try .duplicate(number, atLeast: 3) }
    let null = try Descriptor.made(by: .open) { open("/dev/null", O_RDWR | O_CLOEXEC) }
    return null.number > 2 ? null : try .duplicate(null.number, atLeast: 3)
  }

  private static func spawn(
    _ arguments: [String], _ descriptors: [Int32], _ pid: inout Int32
  ) -> Int32 {
    let strings = arguments.map { strdup($0) }
    defer { for string in strings { free(string) } }
    if strings.contains(where: { $0 == nil }) {
      errno = ENOMEM
      return -1
    }
    let code = swp_spawn(&pid, strings + [nil], swp_environment(), descriptors)
    guard code != 0 else { return 0 }
    errno = code
    return -1
  }

  /// A pidfd of the fresh child; nil when the host program has collected it already.
  private static func watch(_ pid: Int32) throws(SystemError) -> Descriptor? {
    let value = result(of: .pidfdOpen) { swp_pidfd_open(pid) }
    if value == -Int(ESRCH) { return nil }
    guard value >= 0 else {
      // A child that cannot be watched is not kept.
      _ = Glibc.kill(pid, SIGKILL)
      while waitpid(pid, nil, 0) < 0, errno == EINTR {}
      throw SystemError(errno: Int32(-value), call: .pidfdOpen)
    }
    let pidfd = Descriptor(owning: Int32(value))
    // Collected, and the number given to a stranger, all since the start: not ours to signal.
    if livenessBehind(pidfd) == .alive, let status = ProcessStatus(of: pid),
      status.parent != getpid()
    {
      return nil
    }
    return pidfd
  }
}
