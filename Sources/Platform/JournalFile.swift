import CPlatform
import Glibc

/// Why a journal cannot be used.
public enum JournalError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Another live process, or another handle of this one, works with it.
  case held
  /// It is not a private regular file of ours; the text says what is wrong.
  case untrusted(String)
  /// It is larger than the reader wants.
  case tooLarge(limit: Int)
  /// The system refused.
  case system(SystemError)

  public var description: String {
    switch self {
    case .held: "the journal is held by a live process"
    case .untrusted(let reason): "the journal is not trusted: \(reason)"
    case .tooLarge(let limit): "the journal is larger than \(limit) bytes"
    case .system(let error): "the journal failed: \(error)"
    }
  }
}

/// A small file that is replaced as a whole, durably, and locked while it is open.
///
/// The lock is on the file that bears the name at that time, also across replacements, and goes
/// with the last copy of the descriptor: a forked child that lives on keeps it.
public final class JournalFile {
  /// Openings that may find the file replaced under them before we give up.
  private static let attemptLimit = 16

  private let directory: Descriptor
  private let name: String
  private var file: Descriptor

  /// Opens and locks the journal at `path`, making it (0600, empty) when `create` is set.
  ///
  /// Links in the last part of the path are not followed; the file must be regular, ours, private
  /// and without a second name.
  public init(path: String, create: Bool) throws(JournalError) {
    let (folder, name) = Self.split(path)
    do throws(SystemError) {
      let directory = try Descriptor.made(by: .open) {
        open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      }
      self.directory = directory
      self.name = name
    } catch {
      throw .system(error)
    }
    file = try Self.openLocked(name, in: directory, create: create)
  }

  /// The whole content, at most `limit` bytes.
  public func read(limit: Int) throws(JournalError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: max(limit, 0) + 1)
    var count = 0
    do throws(SystemError) {
      while count < bytes.count {
        let more = try checked(.read) {
          bytes.withUnsafeMutableBytes { raw in
            let rest = UnsafeMutableRawBufferPointer(rebasing: raw[count...])
            return pread(file.number, rest.baseAddress, rest.count, off_t(count))
          }
        }
        if more == 0 { break }
        count += more
      }
    } catch {
      throw .system(error)
    }
    guard count <= limit else { throw .tooLarge(limit: limit) }
    return Array(bytes.prefix(count))
  }

  /// Replaces the content; when it returns, the new one is on the disk under its name.
  ///
  /// When it throws, the journal has the old or the new content, never a mixture. Blocks for the
  /// time the disk takes.
  public func replace(with bytes: [UInt8]) throws(JournalError) {
    let temporary = name + ".new"
    do throws(SystemError) {
      // Only the holder of the lock comes here: a leftover is from a holder that died.
      try unlinkIfThere(temporary)
      let fresh = try Descriptor.made(by: .open) {
        openat(
          directory.number, temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
      }
      do throws(SystemError) {
        try fill(fresh, with: bytes)
        try checked(.rename) {
          renameat(directory.number, temporary, directory.number, name)
        }
      } catch {
        try? unlinkIfThere(temporary)
        throw error
      }
      file = fresh
      try checked(.synchronize) { fsync(directory.number) }
    } catch {
      throw .system(error)
    }
  }

  /// Removes the journal for good.
  public func remove() throws(JournalError) {
    do throws(SystemError) {
      try unlinkIfThere(name)
      try checked(.synchronize) { fsync(directory.number) }
    } catch {
      throw .system(error)
    }
  }

  /// Locks before the name is given, so that nobody can open the new file first.
  private func fill(_ fresh: Descriptor, with bytes: [UInt8]) throws(SystemError) {
    try checked(.lock) { swp_lock_exclusively(fresh.number) }
    var count = 0
    while count < bytes.count {
      let offset = count
      count += try checked(.write) {
        bytes.withUnsafeBytes { raw in
          let rest = UnsafeRawBufferPointer(rebasing: raw[offset...])
          return Glibc.write(fresh.number, rest.baseAddress, rest.count)
        }
      }
    }
    try checked(.synchronize) { fsync(fresh.number) }
  }

  private func unlinkIfThere(_ name: String) throws(SystemError) {
    let value = result(of: .unlink) { unlinkat(directory.number, name, 0) }
    if value < 0, value != -Int(ENOENT) {
      throw SystemError(errno: Int32(-value), call: .unlink)
    }
  }

  private static func openLocked(
    _ name: String, in directory: Descriptor, create: Bool
  ) throws(JournalError) -> Descriptor {
    let flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | (create ? O_CREAT : 0)
    do {
      for _ in 0..<attemptLimit {
        let file = try Descriptor.made(by: .open) {
          openat(directory.number, name, flags, 0o600)
        }
        let status = try fileStatus(of: file)
        if let reason = distrust(status) { throw JournalError.untrusted(reason) }
        let locked = result(of: .lock) { swp_lock_exclusively(file.number) }
        if locked == -Int(EAGAIN) || locked == -Int(EACCES) { throw JournalError.held }
        if locked < 0 { throw SystemError(errno: Int32(-locked), call: .lock) }
        if try bearsName(status, name, in: directory) { return file }
        // Its holder replaced or removed it between our opening and our lock.
      }
      throw JournalError.held
    } catch let error as SystemError {
      throw error.errno == ELOOP
        ? .untrusted("it is a symbolic link") : .system(error)
    } catch let error as JournalError {
      throw error
    } catch {
      throw .untrusted("it cannot be opened")
    }
  }

  private static func bearsName(
    _ status: stat, _ name: String, in directory: Descriptor
  ) throws(SystemError) -> Bool {
    var current = stat()
    let value = result(of: .fileStatus) {
      fstatat(directory.number, name, &current, AT_SYMLINK_NOFOLLOW)
    }
    if value == -Int(ENOENT) { return false }
    if value < 0 { throw SystemError(errno: Int32(-value), call: .fileStatus) }
    return current.st_dev == status.st_dev && current.st_ino == status.st_ino
  }

  private static func distrust(_ status: stat) -> String? {
    if status.st_mode & S_IFMT != S_IFREG { return "it is not a regular file" }
    if status.st_uid != geteuid() { return "user \(status.st_uid) owns it" }
    if status.st_mode & 0o077 != 0 { return "others than its owner may use it" }
    if status.st_nlink > 1 { return "it has more than one name" }
    return nil
  }

  private static func split(_ path: String) -> (folder: String, name: String) {
    guard let slash = path.lastIndex(of: "/") else { return (".", path) }
    let folder = path[..<slash]
    return (folder.isEmpty ? "/" : String(folder), String(path[path.index(after: slash)...]))
  }
}
