import Glibc

/// A directory of our own for sockets, which no other user can enter.
///
/// It is made under the first of /run/switchover, $XDG_RUNTIME_DIR and /tmp that can be used, and
/// everything in it is reached through its descriptor, so that nobody can slip a link under us.
public final class PrivateDirectory {
  /// Entries that `remove` takes away; a directory of sockets never has more.
  private static let entryLimit = 4096

  /// The absolute path.
  public let path: String

  private let descriptor: Descriptor
  private let origin: ForkGuard
  private var isRemoved = false

  /// Makes the directory; the error is that of the last candidate.
  public convenience init() throws(SystemError) {
    try self.init(candidates: Self.standardCandidates())
  }

  /// Makes the directory under the first parent that can be used.
  init(candidates: [String]) throws(SystemError) {
    origin = try ForkGuard()
    var failure = SystemError(errno: ENOENT, call: .makeDirectory)
    for candidate in candidates {
      do {
        (path, descriptor) = try Self.make(under: candidate)
        return
      } catch {
        failure = error
      }
    }
    throw failure
  }

  deinit { remove() }

  /// The path of a socket in it; `ENAMETOOLONG` where a socket address could not hold it, `EINVAL`
  /// where `name` is no plain file name.
  public func socketPath(_ name: String) throws(SystemError) -> String {
    guard !name.isEmpty, !name.hasPrefix("."), !name.utf8.contains(where: { $0 == 0 || $0 == 0x2F })
    else { throw SystemError(errno: EINVAL, call: .bind) }
    let result = path + "/" + name
    guard result.utf8.count <= SocketAddress.unixPathLimit else {
      throw SystemError(errno: ENAMETOOLONG, call: .bind)
    }
    return result
  }

  /// Removes the entry `name`, if it is there.
  public func removeEntry(_ name: String) throws(SystemError) {
    let value = result(of: .unlink) { unlinkat(descriptor.number, name, 0) }
    if value < 0, value != -Int(ENOENT) {
      throw SystemError(errno: Int32(-value), call: .unlink)
    }
  }

  /// Removes the directory with everything in it, following no link; a forked copy only closes.
  public func remove() {
    guard !isRemoved else { return }
    isRemoved = true
    if !origin.isForeign {
      for name in entries() { _ = unlinkat(descriptor.number, name, 0) }
      // An emptied directory of that name is ours or not: if it is somebody else's, it is not
      // empty or not removable by us.
      _ = rmdir(path)
    }
    descriptor.close()
  }

  private func entries() -> [String] {
    guard let copy = try? Descriptor.duplicate(descriptor.number),
      let stream = fdopendir(copy.number)
    else { return [] }
    // The stream owns the copy now.
    _ = copy.release()
    defer { closedir(stream) }
    var names: [String] = []
    while names.count < Self.entryLimit, let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { field in
        field.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  private static func standardCandidates() -> [String] {
    var candidates = ["/run/switchover"]
    // As root only when that is missing: it belongs to us and has the right mode, or is not used.
    _ = mkdir("/run/switchover", 0o700)
    if let runtime = getenv("XDG_RUNTIME_DIR") {
      let path = String(cString: runtime)
      if path.hasPrefix("/") { candidates.append(path) }
    }
    candidates.append("/tmp")
    return candidates
  }

  private static func make(under parent: String) throws(SystemError) -> (String, Descriptor) {
    try checkParent(parent)
    var template = Array("\(parent)/switchover-XXXXXX".utf8CString)
    let made = try checkedPointer(.makeDirectory) { mkdtemp(&template) }
    let path = String(cString: made)
    do throws(SystemError) {
      let descriptor = try Descriptor.made(by: .open) {
        open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
      }
      let status = try fileStatus(of: descriptor)
      guard status.st_uid == geteuid(), status.st_mode & 0o777 == 0o700 else {
        throw SystemError(errno: EPERM, call: .makeDirectory)
      }
      return (path, descriptor)
    } catch {
      _ = rmdir(path)
      throw error
    }
  }

  /// A parent in which another user could rename our directory away is none: it is ours or root's,
  /// and nobody else may write to it, unless it is sticky.
  private static func checkParent(_ parent: String) throws(SystemError) {
    let descriptor = try Descriptor.made(by: .open) {
      open(parent, pathOnly | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    }
    let status = try fileStatus(of: descriptor)
    let writableByOthers = status.st_mode & 0o022 != 0
    let sticky = status.st_mode & 0o1000 != 0
    guard status.st_uid == geteuid() || status.st_uid == 0, !writableByOthers || sticky else {
      throw SystemError(errno: EPERM, call: .makeDirectory)
    }
  }
}

/// What `fstat` says of an open file.
func fileStatus(of descriptor: Descriptor) throws(SystemError) -> stat {
  var status = stat()
  try checked(.fileStatus) { fstat(descriptor.number, &status) }
  return status
}

/// The flag `O_PATH`, which the Swift overlay of the C library does not have.
private let pathOnly: Int32 = 0o10000000

private func checkedPointer<Pointee>(
  _ call: SystemCall, _ body: () -> UnsafeMutablePointer<Pointee>?
) throws(SystemError) -> UnsafeMutablePointer<Pointee> {
  var pointer: UnsafeMutablePointer<Pointee>?
  try checked(call) {
    pointer = body()
    return pointer == nil ? Int32(-1) : 0
  }
  guard let pointer else { throw SystemError(errno: EINVAL, call: call) }
  return pointer
}
