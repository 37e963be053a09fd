import CQEMUHarness
import Glibc

/// A unix socket that QEMU connects to when it starts, so that nothing it says there is lost.
final class ListeningSocket: Sendable {
  let path: String
  let descriptor: Int32

  init(path: String) throws {
    self.path = path
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw HarnessError.system("socket", code: errno) }
    let bound = withUnixAddress(path) { Glibc.bind(descriptor, $0, $1) }
    guard bound == 0, listen(descriptor, 8) == 0 else {
      let code = errno
      close(descriptor)
      throw HarnessError.system("listen on \(path)", code: code)
    }
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

/// Calls a socket function with the address of a unix socket; -1 and ENAMETOOLONG if it is too long.
func withUnixAddress(
  _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
) -> Int32 {
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  let bytes = Array(path.utf8)
  guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
    errno = ENAMETOOLONG
    return -1
  }
  withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  return withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
    }
  }
}
