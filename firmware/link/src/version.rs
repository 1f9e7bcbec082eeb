//! Which version of the protocol both sides speak.
//!
//! The `Hello` messages of all versions share one form. After them both sides use the highest version that both
//! know, or end with one line that says which side to update.
//!
//! | version | adds |
//! |---|---|
//! | 2 | `Known` and `Unchanged`: folders in which nothing changed are not listed |
//! | 3 | `Squeeze` and `Packed`: what the agent says is compressed where the link is slow |
//! | 4 | `Prepare` and `Freeze`: the final pass crosses the link when mail runs again |
//! | 5 | `Configured` tells how early the restart guard begins |
//! | 6 | `Amended`: of a folder in which something changed only that is said, where the agent saw it happen |
//! | 7 | the words of [`crate::rebuild`]: a whole server's way back |
//! | 8 | `Remember`: of a final pass only that is said which may have changed since the live pass before it |
//! | 9 | `List` and `Look`: the list of mailboxes for another Cyrus, and a look at the restored server |
//! | 10 | `Unasked`: what a repository that holds nothing cannot have is sent without a question |

use crate::LinkError;
use crate::message::Hello;

/// Lowest version this build speaks.
pub const LOWEST: u32 = 1;
/// Highest version this build speaks.
pub const HIGHEST: u32 = 10;
/// From this version on the box may say `Known`, and the agent then `Unchanged`.
pub const UNCHANGED: u32 = 2;
/// From this version on the box may say `Squeeze`, and the agent then `Packed`.
pub const PACKED: u32 = 3;
/// From this version on the box may say `Prepare` and `Freeze`.
pub const FREEZE: u32 = 4;
/// From this version on the agent says when its restart guard would begin.
pub const LEAD: u32 = 5;
/// From this version on the agent may say `Amended` in a final pass.
pub const AMENDED: u32 = 6;
/// From this version on the box may say what [`crate::rebuild`] has.
pub const REBUILD: u32 = 7;
/// From this version on the box may say `Remember`, and the agent `Amended` of any directory then.
pub const REMEMBER: u32 = 8;
/// From this version on the box may say `List` and `Look`.
pub const LIST: u32 = 9;
/// From this version on the box may say `Unasked`, and the agent then `Data` without `Chunks`.
pub const UNASKED: u32 = 10;

/// Our offer, under the name of `program` ("mailkeep-agent 0.1.0").
pub fn hello(program: &str) -> Hello {
    Hello { lowest: LOWEST, highest: HIGHEST, program: program.to_owned() }
}

/// The version that both sides of a connection use.
///
/// # Errors
/// [`LinkError::NoCommonVersion`]; [`LinkError::Rule`] for a range that is none.
pub fn negotiate(own: &Hello, theirs: &Hello) -> Result<u32, LinkError> {
    if theirs.lowest > theirs.highest {
        return Err(LinkError::Rule { message: "Hello", rule: "its lowest version is above its highest" });
    }
    let highest = own.highest.min(theirs.highest);
    if highest >= own.lowest.max(theirs.lowest) {
        return Ok(highest);
    }
    Err(LinkError::NoCommonVersion {
        theirs: theirs.program.chars().take(80).filter(|letter| !letter.is_control()).collect(),
        lowest: theirs.lowest,
        highest: theirs.highest,
        own_lowest: own.lowest,
        own_highest: own.highest,
        older: if theirs.highest < own.lowest { "far" } else { "near" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(lowest: u32, highest: u32) -> Hello {
        Hello { lowest, highest, program: "mailkeep-agent 9".into() }
    }

    #[test]
    fn the_highest_common_version_is_used() {
        assert_eq!(negotiate(&offer(1, 3), &offer(2, 5)).unwrap(), 3);
        assert_eq!(negotiate(&offer(4, 9), &offer(2, 5)).unwrap(), 5);
        assert_eq!(negotiate(&offer(1, 1), &offer(1, 1)).unwrap(), 1);
    }

    #[test]
    fn without_one_the_error_names_the_side_to_update() {
        let older = negotiate(&offer(3, 4), &offer(1, 2)).unwrap_err().to_string();
        assert!(older.contains("update the far side") && older.contains("mailkeep-agent 9"), "{older}");
        let newer = negotiate(&offer(1, 2), &offer(3, 4)).unwrap_err().to_string();
        assert!(newer.contains("update the near side"), "{newer}");
        assert!(negotiate(&offer(1, 2), &offer(2, 1)).is_err());
    }
}
