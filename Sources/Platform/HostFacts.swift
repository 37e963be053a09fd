import Glibc

/// What this process and its machine are like.
public enum HostFacts {
  /// Whether the processor computes AES by itself, as `/proc/cpuinfo` says.
  public static var hasAES: Bool {
    guard
      let file = try? Descriptor.made(
        by: .open, { open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC) })
    else { return false }
    // The first processor's part is enough, and it fits.
    return withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 1) { buffer -> Bool in
      let count = result(of: .read) { read(file.number, buffer.baseAddress, buffer.count) }
      let text = String(
        decoding: UnsafeRawBufferPointer(rebasing: buffer[..<max(count, 0)]), as: UTF8.self)
      return text.split(separator: "\n").contains { line in
        (line.hasPrefix("flags") || line.hasPrefix("Features"))
          && line.split(whereSeparator: { $0 == " " || $0 == "\t" }).contains("aes")
      }
    }
  }

  /// The user's home directory as the user database has it; **blocks** as long as that takes.
  public static var homeDirectory: String? { ofAccount { $0.pw_dir } }

  /// The user's name; **blocks** as `homeDirectory` does.
  public static var userName: String? { ofAccount { $0.pw_name } }

  /// A variable of the environment.
  public static func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
  }

  private static func ofAccount(
    _ field: (passwd) -> UnsafeMutablePointer<CChar>?
  ) -> String? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16 << 10) { room in
      guard let base = room.baseAddress else { return nil }
      var entry = passwd()
      var found: UnsafeMutablePointer<passwd>?
      guard getpwuid_r(getuid(), &entry, base, room.count, &found) == 0, found != nil
      else { return nil }
      return field(entry).map { String(cString: $0) }
    }
  }
}
