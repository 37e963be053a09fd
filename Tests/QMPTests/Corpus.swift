import Glibc
import Testing

/// The recorded and hand-written streams that tests and fuzzers start from.
enum Corpus {
  struct Unreadable: Error {
    var path: String
  }

  static let names = [
    "broken-comma", "broken-literals", "broken-name", "broken-overlong", "broken-string",
    "broken-tail", "deep", "events", "not-qmp-array", "not-qmp-banner", "numbers",
    "pretty-printed", "recorded-7.2", "refused-capabilities", "replies-of-nobody",
    "replies-out-of-order", "strings",
  ].map { $0 + ".qmp" }

  static func bytes(of name: String, in folder: StaticString = #filePath) throws -> [UInt8] {
    let folder = String(describing: folder).split(separator: "/").dropLast().joined(separator: "/")
    let path = "/" + folder + "/Corpus/" + name
    guard let file = fopen(path, "rb") else { throw Unreadable(path: path) }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = fread(&piece, 1, piece.count, file)
      if count == 0 { return bytes }
      bytes += piece[..<count]
    }
  }
}
