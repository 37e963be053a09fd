import Glibc

/// Remembers the process that made something, so that a forked copy of it can keep its hands off.
public struct ForkGuard: Sendable {
  private let processIdentifier: Int32

  /// Remembers the calling process.
  public init() { processIdentifier = getpid() }

  /// Whether the caller is another process than the one that made this value.
  public var isForeign: Bool { getpid() != processIdentifier }
}
