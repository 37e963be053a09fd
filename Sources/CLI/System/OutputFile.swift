import Glibc

/// A file that is opened before the work begins and written after it.
final class OutputFile {
  private let path: String
  private let descriptor: Int32

  init(_ path: String) throws {
    self.path = path
    descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw CommandFailure(local: systemError("open \(path)")) }
  }

  deinit {
    close(descriptor)
  }

  /// Puts the text in place of what the file had; returns what went wrong, if anything.
  func replace(with text: String) -> String? {
    // A device or a pipe has nothing to cut, and takes the text all the same.
    _ = ftruncate(descriptor, 0)
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      if count > 0 {
        rest = rest.dropFirst(count)
      } else if errno != EINTR {
        return systemError("write \(path)")
      }
    }
    return nil
  }
}
