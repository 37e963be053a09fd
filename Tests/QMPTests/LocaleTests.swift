import Glibc
import QMP
import Testing

/// json-c changes the thread's locale while it parses; the host program must never see that.
@Suite struct LocaleTests {
  @Test func parsingLeavesTheThreadsLocaleAlone() throws {
    let own = newlocale(1 << LC_NUMERIC, "C.UTF-8", nil)
    let before = uselocale(own)
    defer {
      _ = uselocale(before)
      freelocale(own)
    }
    for text in ["[1.5,1e-3]", "[1.5", "nonsense"] {
      _ = try? decode(text)
      #expect(uselocale(nil) == own)
    }
  }

  @Test func numbersAreReadInAnyLocale() throws {
    // Only where the machine has a locale with a decimal comma is there something to go wrong.
    var comma: locale_t?
    for name in ["de_DE.UTF-8", "fr_FR.UTF-8", "ru_RU.UTF-8", "C.UTF-8"] where comma == nil {
      comma = newlocale(1 << LC_NUMERIC, name, nil)
    }
    let before = uselocale(comma)
    defer {
      _ = uselocale(before)
      freelocale(comma)
    }
    #expect(try decode("[1.5,1e-3]") == [1.5, 0.001])
    #expect(encode(.number(1.5)) == "1.5")
  }
}
