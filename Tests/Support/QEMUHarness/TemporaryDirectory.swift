import CQEMUHarness
import Glibc

/// A private directory that is deleted with everything in it when it is let go.
public final class TemporaryDirectory: Sendable {
  /// The absolute path, short enough for the sockets inside to fit into 108 bytes.
  public let path: String

  public init() throws {
    var template = Array("/tmp/swo-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw HarnessError.system("mkdtemp", code: errno) }
    path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  deinit {
    remove()
  }

  /// The path of something inside.
  public func file(_ name: String) -> String {
    path + "/" + name
  }

  /// Deletes the directory now.
  public func remove() {
    _ = qemu_harness_remove_tree(path)
  }
}

/// Writes a whole file.
func writeFile(_ bytes: [UInt8], to path: String) throws {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw HarnessError.system("open \(path)", code: errno) }
  defer { close(descriptor) }
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    guard count > 0 else { throw HarnessError.system("write \(path)", code: errno) }
    rest = rest.dropFirst(count)
  }
}

/// Reads a whole file; nil if it cannot be read.
public func readFile(_ path: String) -> [UInt8]? {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return nil }
  defer { close(descriptor) }
  var result: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    guard count >= 0 else { return nil }
    guard count > 0 else { return result }
    result += buffer[..<count]
  }
}

func errorText(_ code: Int32) -> String {
  String(cString: strerror(code))
}
