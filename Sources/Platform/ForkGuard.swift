import CPlatform
import Glibc

/// Remembers the process that made something, so that a forked copy of it can keep its hands off.
///
/// The kernel wipes a word of memory in every fork: asking costs a read, so that it can be asked in
/// every call, also inside a blackout.
public final class ForkGuard {
  private let marker: UnsafeMutablePointer<UInt32>

  /// Remembers the calling process. `ENOMEM` when there is no page for it.
  public init() throws(SystemError) {
    var made: UnsafeMutablePointer<UInt32>?
    try checked(.memoryMap) {
      made = swp_fork_marker_create()
      return made == nil ? Int32(-1) : 0
    }
    guard let made else { throw SystemError(errno: ENOMEM, call: .memoryMap) }
    marker = made
  }

  deinit { swp_fork_marker_destroy(marker) }

  /// Whether the caller is a fork of the process that made this value.
  public var isForeign: Bool { swp_fork_marker_read(marker) == 0 }
}
