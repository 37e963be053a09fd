import CBenchmarks
import Glibc

/// A QMP connection with as little between the socket and the caller as C would have: the floor that
/// the library is held against.
final class BareMonitor {
  let descriptor: Int32
  private var text: [UInt8] = []

  init(path: String) {
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let size = socklen_t(MemoryLayout<sockaddr_un>.size)
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
    }
    precondition(result == 0, "cannot connect to \(path)")
    waitFor("\"QMP\"")
    send("{\"execute\":\"qmp_capabilities\"}")
    waitFor("\"return\"")
  }

  deinit { close(descriptor) }

  func send(_ line: String) {
    var line = line
    line.withUTF8 { _ = write(descriptor, $0.baseAddress, $0.count) }
  }

  /// Reads until the text has come, and forgets everything up to it.
  func waitFor(_ pattern: String) {
    let pattern = Array(pattern.utf8)
    while true {
      if let end = Self.end(of: pattern, in: text) {
        text.removeFirst(end)
        return
      }
      readOn()
    }
  }

  /// Reads until both texts have come, in whatever order.
  func waitFor(both first: String, _ second: String) {
    let patterns = [Array(first.utf8), Array(second.utf8)]
    while patterns.contains(where: { Self.end(of: $0, in: text) == nil }) { readOn() }
  }

  private func readOn() {
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = read(descriptor, &buffer, buffer.count)
    precondition(count > 0, "the monitor ended")
    text.append(contentsOf: buffer[0..<count])
  }

  func execute(_ line: String) {
    send(line)
    waitFor("\"return\"")
  }

  private static func end(of pattern: [UInt8], in text: [UInt8]) -> Int? {
    let end = bench_find_end(text, text.count, pattern, pattern.count)
    return end < 0 ? nil : end
  }
}
