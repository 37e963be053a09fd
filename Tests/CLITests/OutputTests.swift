import Glibc
import Testing

@testable import CLI

@Suite("Output")
struct OutputTests {
  /// A pipe whose reading end is read by the test.
  private final class TestPipe {
    let reading: Int32
    let writing: Int32

    init() throws {
      var ends: [Int32] = [-1, -1]
      try #require(pipe(&ends) == 0)
      (reading, writing) = (ends[0], ends[1])
      _ = fcntl(reading, F_SETFL, O_NONBLOCK)
    }

    deinit {
      close(reading)
      close(writing)
    }

    func read() -> String {
      var text: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 1 << 12)
      while true {
        let count = buffer.withUnsafeMutableBytes {
          Glibc.read(reading, $0.baseAddress, $0.count)
        }
        guard count > 0 else { return String(decoding: text, as: UTF8.self) }
        text += buffer.prefix(count)
      }
    }
  }

  @Test("a reader that does not read holds nothing up, and loses no line but progress")
  func slowReader() throws {
    let pipe = try TestPipe()
    let output = Output(pipe.writing)
    let long = String(repeating: "x", count: 999)
    for _ in 0..<200 { output.line(long) }
    for _ in 0..<200 { output.progressLine("progress") }
    output.line("last")
    #expect(output.isWaiting)

    var text = ""
    while output.isWaiting {
      text += pipe.read()
      output.flush()
    }
    text += pipe.read()
    let lines = text.split(separator: "\n")
    #expect(lines.count { $0 == long } == 200)
    #expect(lines.last == "last")
    #expect(!lines.contains("progress"))
  }

  @Test("a status line is drawn again below every other line")
  func statusLine() throws {
    let pipe = try TestPipe()
    let output = Output(pipe.writing)
    output.status("10 %")
    output.status("10 %")
    output.line("warning")
    output.status("20 %")
    output.status("")
    #expect(
      pipe.read()
        == "\r\u{1b}[K10 %" + "\r\u{1b}[Kwarning\n10 %" + "\r\u{1b}[K20 %" + "\r\u{1b}[K")
  }

  @Test("a status line that cannot be drawn now is not queued, and its end is")
  func statusOfASlowReader() throws {
    let pipe = try TestPipe()
    let output = Output(pipe.writing)
    output.status("first")
    while !output.isWaiting { output.line(String(repeating: "x", count: 999)) }
    output.status("second")
    output.status("")
    var text = ""
    while output.isWaiting {
      text += pipe.read()
      output.flush()
    }
    text += pipe.read()
    #expect(!text.contains("second"))
    #expect(text.hasSuffix("\r\u{1b}[K"))
  }
}
