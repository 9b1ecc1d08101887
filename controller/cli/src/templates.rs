//! Templates.

use vidi_proto::v1::template_service_client::TemplateServiceClient;
use vidi_proto::v1::{
    DeleteTemplateRequest, DeleteTemplateVersionRequest, ListTemplateVersionsResponse,
    ListTemplatesRequest, ListTemplatesResponse, PublishTemplateRequest, RollBackTemplateRequest,
    Template, TemplateVersion,
};

use crate::arguments::{Deletion, Global, TemplateCommand};
use crate::ask::confirm;
use crate::connect::{all_pages, connect};
use crate::output::{Table, done, short, show};
use crate::rollouts::{short_digest, version_named, versions};
use crate::template::TemplateFolder;
use crate::when::since;

/// Templates.
pub(crate) async fn template(global: &Global, command: TemplateCommand) -> anyhow::Result<()> {
    let parent = format!("tenants/{}", global.tenant);
    let full = |name: &str| format!("{parent}/templates/{name}");
    match command {
        TemplateCommand::Create { name, from, display_name, draft } => {
            let folder = TemplateFolder::open(&from)?;
            let display_name = display_name.unwrap_or_else(|| folder.name.clone());
            let api = connect(global).await?;
            let template = folder.upload(api, parent.clone(), (name, display_name, draft)).await?;
            show(global.output, "Template", &template, |one| table(std::slice::from_ref(one)))
        }
        TemplateCommand::List => {
            let mut client = TemplateServiceClient::new(connect(global).await?);
            let templates = all_pages(async |page_token| {
                let parent = parent.clone();
                let request = ListTemplatesRequest { parent, page_size: 0, page_token };
                let page = client.list_templates(request).await?.into_inner();
                Ok((page.templates, page.next_page_token))
            })
            .await?;
            let all = ListTemplatesResponse { templates, next_page_token: String::new() };
            show(global.output, "ListTemplatesResponse", &all, |all| table(&all.templates))
        }
        TemplateCommand::Versions { name } => {
            let versions = versions(connect(global).await?, &full(&name)).await?;
            let all = ListTemplateVersionsResponse { versions, next_page_token: String::new() };
            show(global.output, "ListTemplateVersionsResponse", &all, |all| {
                versions_table(&all.versions)
            })
        }
        TemplateCommand::Publish { name, version } => {
            let api = connect(global).await?;
            let digest = version_named(api.clone(), &full(&name), &version).await?;
            let request = PublishTemplateRequest { name: full(&name), digest, etag: String::new() };
            let published = TemplateServiceClient::new(api).publish_template(request).await?;
            show(global.output, "Template", &published.into_inner(), |one| {
                table(std::slice::from_ref(one))
            })
        }
        TemplateCommand::RollBack { name } => {
            let mut client = TemplateServiceClient::new(connect(global).await?);
            let request = RollBackTemplateRequest { name: full(&name), etag: String::new() };
            let template = client.roll_back_template(request).await?.into_inner();
            show(global.output, "Template", &template, |one| table(std::slice::from_ref(one)))
        }
        TemplateCommand::DeleteVersion { name, version } => {
            let api = connect(global).await?;
            let digest = version_named(api.clone(), &full(&name), &version).await?;
            let gone = short_digest(&digest);
            let request = DeleteTemplateVersionRequest { name: full(&name), digest };
            TemplateServiceClient::new(api).delete_template_version(request).await?;
            done(global.output, &format!("version {gone} of template {name} deleted"))
        }
        TemplateCommand::Delete(Deletion { name, yes }) => {
            confirm(yes, &format!("All versions of the template {name} are deleted."))?;
            let mut client = TemplateServiceClient::new(connect(global).await?);
            let request = DeleteTemplateRequest { name: full(&name), etag: String::new() };
            client.delete_template(request).await?;
            done(global.output, &format!("template {name} deleted"))
        }
    }
}

fn table(templates: &[Template]) -> Table {
    let mut table = Table::new(["TEMPLATE", "NAME", "VERSION", "OF", "MEMORY", "CPUS"]);
    for template in templates {
        let version = template.latest.clone().unwrap_or_default();
        let guest = version.manifest.unwrap_or_default().guest.unwrap_or_default();
        let age = since(version.create_time.as_ref());
        table.row([
            short(&template.name),
            template.display_name.clone(),
            short_digest(&version.digest),
            if age.is_empty() { age } else { format!("{age} ago") },
            format!("{} MiB", guest.memory_mib),
            guest.vcpus.to_string(),
        ]);
    }
    table
}

fn versions_table(versions: &[TemplateVersion]) -> Table {
    let mut table = Table::new(["VERSION", "UPLOADED", "PUBLISHED", "DESKTOPS", "MEMORY", "CPUS"]);
    for version in versions {
        let manifest = version.manifest.clone().unwrap_or_default();
        let guest = manifest.guest.unwrap_or_default();
        let age = since(version.create_time.as_ref());
        table.row([
            short_digest(&version.digest),
            if age.is_empty() { age } else { format!("{age} ago") },
            if version.published { "yes".to_owned() } else { String::new() },
            version.desktops.to_string(),
            format!("{} MiB", guest.memory_mib),
            guest.vcpus.to_string(),
        ]);
    }
    table
}
