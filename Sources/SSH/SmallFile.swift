import Glibc
import Platform

/// Reads configuration files whole.
enum SmallFile {
  /// Reads a regular file of at most `limit` bytes; **blocks** as long as the disk takes.
  ///
  /// A pipe or a device in its place is refused instead of waited for (`EINVAL`), a longer file
  /// with `EFBIG`.
  static func read(_ path: String, limit: Int) throws(SystemError) -> [UInt8] {
    let (descriptor, status) = try open(path, limit: limit)
    var failure: SystemError?
    let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { room, count in
      do throws(SystemError) {
        count = try fill(UnsafeMutableRawBufferPointer(room), from: descriptor)
      } catch {
        failure = error
        count = 0
      }
    }
    if let failure { throw failure }
    return bytes
  }

  /// Like `read`, into memory that is wiped; also says who may open the file.
  static func readSecret(
    _ path: String, limit: Int
  ) throws(SystemError) -> (bytes: SecretBytes, owner: uid_t, mode: mode_t) {
    let (descriptor, status) = try open(path, limit: limit)
    let bytes = try SecretBytes(capacity: Int(status.st_size)) { room throws(SystemError) in
      try fill(room, from: descriptor)
    }
    return (bytes, status.st_uid, status.st_mode & 0o777)
  }

  private static func open(
    _ path: String, limit: Int
  ) throws(SystemError) -> (Descriptor, stat) {
    // Not blocking: a pipe without a writer would hold the caller up here already.
    let number = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard number >= 0 else { throw SystemError(errno: errno, call: .open) }
    let descriptor = Descriptor(owning: number)
    var status = stat()
    guard fstat(number, &status) == 0 else { throw SystemError(errno: errno, call: .fileStatus) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw SystemError(errno: EINVAL, call: .open)
    }
    guard status.st_size <= limit else { throw SystemError(errno: EFBIG, call: .read) }
    return (descriptor, status)
  }

  private static func fill(
    _ room: UnsafeMutableRawBufferPointer, from descriptor: Descriptor
  ) throws(SystemError) -> Int {
    var total = 0
    while total < room.count {
      let count = Glibc.read(
        descriptor.number, room.baseAddress?.advanced(by: total), room.count - total)
      if count == 0 { break }
      if count < 0 {
        if errno == EINTR { continue }
        throw SystemError(errno: errno, call: .read)
      }
      total += count
    }
    return total
  }
}
