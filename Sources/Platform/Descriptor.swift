import Glibc

/// The owner of one file descriptor: closes it exactly once, at `close()` or when it goes away.
///
/// Every descriptor that this module makes is closed on exec. In a forked child the copy of an
/// owner may be closed too: that touches neither the parent's descriptor nor the peer.
public final class Descriptor {
  /// The number, or -1 once closed.
  public private(set) var number: Int32

  /// Takes over `number`, which nobody else may close from now on.
  public init(owning number: Int32) { self.number = number }

  deinit { close() }

  /// Whether the descriptor is still there.
  public var isOpen: Bool { number >= 0 }

  /// Closes the descriptor; later calls do nothing.
  public func close() {
    guard number >= 0 else { return }
    // Linux frees the number whatever close() answers: trying again could hit somebody else's.
    _ = Glibc.close(number)
    number = -1
  }

  /// Gives the descriptor away: the caller closes it.
  public func release() -> Int32 {
    defer { number = -1 }
    return number
  }

  /// A second descriptor of the same open file, numbered `minimum` or higher.
  public static func duplicate(
    _ number: Int32, atLeast minimum: Int32 = 0
  ) throws(SystemError) -> Descriptor {
    Descriptor(
      owning: Int32(try checked(.duplicate) { fcntl(number, F_DUPFD_CLOEXEC, minimum) }))
  }

  /// The descriptor that `call` returned.
  static func made(
    by call: SystemCall, _ body: () -> Int32
  ) throws(SystemError) -> Descriptor {
    Descriptor(owning: Int32(try checked(call, body)))
  }
}
