import CQEMUHarness
import Glibc

/// A unix socket that QEMU connects to when it starts, so that nothing it says there is lost.
final class ListeningSocket: Sendable {
  let path: String
  let descriptor: Int32

  init(path: String) throws {
    self.path = path
    descriptor = Endpoint.unix(path).listen()
    guard descriptor >= 0 else { throw HarnessError.system("listen on \(path)", code: errno) }
  }

  deinit {
    close(descriptor)
  }

  /// Takes the first connection; fails when the child has ended before, or at the limit's end.
  func accept(from child: ChildProcess, upTo limit: Duration) throws -> Int32 {
    var waited = [
      pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: child.endDescriptor, events: Int16(POLLIN), revents: 0),
    ]
    let deadline = MonotonicTime.now + limit
    while waited[0].revents == 0 {
      let rest = (deadline - .now).milliseconds
      guard rest > 0 else { throw HarnessError("nobody connected to \(path)") }
      guard poll(&waited, 2, Int32(rest.rounded(.up))) >= 0 || errno == EINTR else {
        throw HarnessError.system("poll", code: errno)
      }
      if waited[0].revents == 0, waited[1].revents != 0 {
        throw HarnessError("the program ended before it connected to \(path)")
      }
    }
    let accepted = qemu_harness_accept(descriptor)
    guard accepted >= 0 else { throw HarnessError.system("accept", code: errno) }
    return accepted
  }
}
